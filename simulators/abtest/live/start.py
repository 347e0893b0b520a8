"""Brings the arms up: a worker, a learner and a scorer each; broker and Redis are shared."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Literal

import msgspec
import redis

from simulators.abtest.arm import Arm
from simulators.abtest.live.arms import settings_of_arm
from simulators.abtest.live.side import LiveSide
from simulators.abtest.run import Opened, TrialSettings
from simulators.apache_kafka import ApacheKafka, find_kafka
from simulators.world.world import World
from state_store.client import connect
from state_store.embedded.redis import EmbeddedRedis
from stream.command.roles import Role, wait_until
from stream.kafka.broker import EmbeddedBroker
from stream.kafka.topics import ensure_topics, log_ids, remove_topics
from stream.process.status import read_status, read_workers
from stream.process.store import open_store
from stream.sections import MonitorSettings
from stream.settings import Settings

Broker = Literal["embedded", "kafka"]
_MARK = "coldstream-abtest"
"""What topics and groups on somebody's own Kafka begin with; a number of the test's own follows."""


class Live(msgspec.Struct, frozen=True):
    """Servers, and a folder for what the processes leave."""

    kafka_url: str
    redis_url: str
    folder: Path
    page: MonitorSettings | None = None
    """Where the monitor's page is, with the second arm's pipeline and how far the test is; None: there is none."""
    mark: str = ""
    """What topics and groups begin with, on a broker that has others, too."""

    @contextmanager
    def __call__(self, world: World, arms: Sequence[Arm], how: TrialSettings) -> Iterator[Opened]:
        """Both arms of one run, ready; where names are marked, topics and groups are removed when it is over.

        Raises:
            OperatorError: a process ended, or does not get ready; or the broker does not do what it is asked.
        """
        urls = self.kafka_url, self.redis_url
        with ExitStack() as stack:
            settings = [settings_of_arm(arm, how, urls, self.mark) for arm in arms]
            roles = [self._started(one, arm, how, stack) for one, arm in zip(settings, arms, strict=True)]
            if self.page is not None:
                shown = msgspec.structs.replace(settings[1], monitor=self.page)
                stack.enter_context(Role("monitor", shown, self.folder))
            sides = []
            for one, of_arm in zip(settings, roles, strict=True):
                client = stack.enter_context(connect(one.redis))
                wait_until(partial(_is_ready, client, one), "worker and learner to start", of_arm)
                sides.append(stack.enter_context(LiveSide(world, one, how, client, of_arm)))
            together = stack.enter_context(ThreadPoolExecutor(len(sides)))
            yield Opened((sides[0], sides[1]), together.map)

    def _started(self, settings: Settings, arm: Arm, how: TrialSettings, stack: ExitStack) -> list[Role]:
        """An arm's processes, on topics of their own."""
        topics = ensure_topics(settings.kafka)
        if self.mark:
            stack.callback(remove_topics, settings)
        with connect(settings.redis) as client:
            open_store(settings, client).open_log(log_ids(topics, settings), settings.kafka.partitions)
        folder = self.folder / f"seed-{how.seed}" / arm.name
        # A world that was stopped begins anew: a learner would go on from the checkpoint that it left.
        rmtree(folder, ignore_errors=True)
        return [stack.enter_context(Role(name, settings, folder)) for name in ("worker", "learner", "serve")]


def _is_ready(client: redis.Redis, settings: Settings) -> bool:
    prefix = settings.redis.prefix
    owned = {p for report in read_workers(client, prefix).values() for p in report["partitions"]}
    return 0 in owned and read_status(client, prefix) is not None


@contextmanager
def live_servers(
    broker: Broker, folder: Path, page: MonitorSettings | None = None, kafka_url: str = ""
) -> Iterator[Live]:
    """Start broker and Redis; every run on them has topics and keys of its own.

    Args:
        broker: which.
        folder: for what the processes leave; what a run of the same seed has left there is removed.
        page: where the monitor's page is, if there is to be one.
        kafka_url: of a Kafka that is there already, in place of a broker; what is on it stays as it is.

    Raises:
        NoServerError: there is no Apache Kafka, or no embedded server for this platform.
    """
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis())
        if kafka_url:
            yield Live(kafka_url, server.url, folder, page, f"{_MARK}-{token_hex(4)}-")
            return
        log: ApacheKafka | EmbeddedBroker = ApacheKafka(find_kafka()) if broker == "kafka" else EmbeddedBroker()
        stack.enter_context(log)
        yield Live(log.url, server.url, folder, page)
