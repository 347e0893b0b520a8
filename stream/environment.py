"""Environment variables -> settings: `COLDSTREAM_LEARNER__MICRO_BATCH` is `learner.micro_batch`.

Not every variable of that prefix is meant for us: for a Service named coldstream Kubernetes puts `COLDSTREAM_PORT`,
`COLDSTREAM_SERVICE_HOST` and more into every container. What no setting can mean is passed over; what is nearly one is
refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

PREFIX = "COLDSTREAM_"
FAILPOINT = f"{PREFIX}FAILPOINT"
"""No setting: the place at which a process is to die (`stream/process/failpoints.py`)."""

_SERVICE = re.compile(r"_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)\Z")
_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S+\Z")
_CLOSE = 0.9


class NearlyASettingError(ValueError):
    """A variable looks like a setting, but is written otherwise."""


def settings_in(
    environment: Mapping[str, str], known: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Variable, path of the setting, and text of each that means one, known or not.

    Args:
        environment: all variables.
        known: paths of all settings.

    Raises:
        NearlyASettingError: names the variable and how it is to be written.

    >>> given = {"COLDSTREAM_PORT": "tcp://10.0.0.7:80", "COLDSTREAM_LEARNER__SEED": "7", "HOME": "/"}
    >>> list(settings_in(given, [("learner", "seed")]))
    [('COLDSTREAM_LEARNER__SEED', ('learner', 'seed'), '7')]
    """
    written = {variable_of(path): path for path in known}
    by_letters = {_letters(name): name for name in written}
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX) or name == FAILPOINT:
            continue
        if name in written:
            yield name, written[name], text
        elif _is_of_a_service(name, environment):
            continue
        elif "__" in name.removeprefix(PREFIX):
            yield name, tuple(name.removeprefix(PREFIX).lower().split("__")), text
        elif close := get_close_matches(_letters(name), by_letters, 1, _CLOSE):
            right = by_letters[close[0]]
            raise NearlyASettingError(
                f"environment {name}: no setting is written so; {right} is one, with two underscores between section "
                f"and name. Rename {name}, or unset it"
            )


def _letters(name: str) -> str:
    return name.removeprefix(PREFIX).upper().replace("_", "")


def variable_of(path: Iterable[str]) -> str:
    """The variable that sets a setting.

    >>> variable_of(("kafka", "ca_file"))
    'COLDSTREAM_KAFKA__CA_FILE'
    """
    return PREFIX + "__".join(path).upper()


def _is_of_a_service(name: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes, or a link of Docker's, has put it there, and not a person."""
    found = _SERVICE.search(name)
    if found is None:
        return False
    service = name[: found.start()]
    host = environment.get(f"{service}_SERVICE_HOST")
    if found.group() == "_PORT":
        # COLDSTREAM_MONITOR_PORT, of a Service named coldstream-monitor, may be a mistyped monitor.port as well.
        return bool(_ADDRESS.match(environment[name])) or (host is not None and not environment[name].isdigit())
    return host is not None or f"{service}_PORT" in environment
