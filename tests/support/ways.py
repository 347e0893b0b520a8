"""How workers read, and from which broker."""

import pytest


def read_both_ways(*, plain_on: str) -> pytest.MarkDecorator:
    """A test with either broker, and with the plain consumer from one of them; from the other one in the soak.

    Args:
        plain_on: broker that the plain consumer is always tested with.
    """
    ways = [(broker, consumer) for broker in ("embedded", "apache") for consumer in ("coalescing", "plain")]
    return pytest.mark.parametrize(
        ("broker", "consumer"),
        [
            pytest.param(
                broker,
                consumer,
                marks=[
                    *([pytest.mark.kafka] if broker == "apache" else []),
                    *([pytest.mark.soak] if consumer == "plain" and broker != plain_on else []),
                ],
            )
            for broker, consumer in ways
        ],
        indirect=["broker"],
    )
