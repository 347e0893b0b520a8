"""A broker that answers, but tells addresses of itself that do not work from here."""

import os
import subprocess
import sys

import pytest

from state_store.embedded.child import free_port
from stream.kafka.advertised import advertised_problem
from stream.kafka.broker import EmbeddedBroker


class _Elsewhere(EmbeddedBroker):
    """It advertises another address than that at which it answers."""

    def __init__(self, advertised: str) -> None:
        super().__init__()
        self._advertised = advertised

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("--advertised-listener-url") + 1] = f"tcp://{self._advertised}"
        return command


def test_one_broker_that_answers_is_enough() -> None:
    with EmbeddedBroker() as broker:
        assert advertised_problem([("127.0.0.1", broker.port), ("127.0.0.1", free_port())]) == ""
        assert "cannot resolve" in advertised_problem([("127.0.0.1", broker.port), ("kafka.invalid", 9092)])
    assert advertised_problem([]) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("advertised", "why"),
    [("kafka-in-docker.invalid:9092", "cannot resolve"), ("127.0.0.1:{free}", "nothing answers from here")],
)
def test_the_advertised_address_is_named_by_every_command(advertised: str, why: str) -> None:
    advertised = advertised.format(free=free_port())
    with _Elsewhere(advertised) as broker:
        for arguments in (
            ["topics"],
            ["doctor", "--json"],
            ["worker", "--redis", "redis://127.0.0.1:1"],
            ["replay", "--log", "synthetic", "--events", "10"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "stream.command.cli", *arguments, "--kafka", broker.url],
                capture_output=True, encoding="utf-8", timeout=30, check=False, env={**os.environ, "COLUMNS": "500"},
            )  # fmt: skip
            said = done.stdout + done.stderr
            assert done.returncode == 1, arguments
            assert "Traceback" not in said
            assert f"advertises {advertised}" in said
            assert why in said
            assert "advertised.listeners" in said
