"""Another server than the one that is found can be named."""

from pathlib import Path

import pytest
import redis

from state_store.embedded.child import NoServerError
from state_store.embedded.redis import EmbeddedRedis, find_redis_server


def test_an_executable_that_is_named_is_the_one_that_runs(tmp_path: Path) -> None:
    named = tmp_path / "another-server"
    named.symlink_to(find_redis_server())
    started = tmp_path / "started"
    script = tmp_path / "server.sh"
    script.write_text(f'#!/bin/sh\ntouch {started}\nexec {named} "$@"\n')
    script.chmod(0o755)
    with EmbeddedRedis(executable=script) as server, redis.Redis(port=server.port) as client:
        assert client.ping()
    assert started.exists()


@pytest.mark.parametrize("name", ["nothing", "."])
def test_what_is_no_executable_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoServerError, match="is no executable; give the path of a redis-server or valkey-server"):
        EmbeddedRedis(executable=tmp_path / name).start()
