"""What is said of the state holds in whichever way records are joined."""

import pytest

from stream.ingest.stage import Ingest


@pytest.fixture(params=["compiled", "script"], autouse=True)
def joined_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How, for every `Ingest` of which nothing else is said."""
    monkeypatch.setitem(Ingest.__init__.__kwdefaults__, "join", request.param)
    return str(request.param)
