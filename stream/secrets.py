"""What must not be shown, and its masking in whatever is.

Which settings are secret is said at their field (`Meta(extra={"secret": ...})`); reading settings makes their values
known here, also those that are then refused. The command line masks all that it writes (`stream/command/output.py`).
"""

import json
from urllib.parse import quote, quote_plus

from state_store.address.redis_url import HIDDEN

SHORTEST = 4
"""A secret of fewer characters is not looked for in text, as it would mask parts of words and numbers everywhere; where
it stands as a setting it is masked all the same."""


class Secrets:
    """Masks every known secret, in any form in which a message may carry it.

    >>> secrets = Secrets()
    >>> secrets.add("p/w 1")
    >>> secrets.mask("refused: redis://:p%2Fw%201@db and 'p/w 1'")
    "refused: redis://:***@db and '***'"
    """

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """Make a secret known."""
        forms = {
            secret,
            quote(secret, safe=""),
            quote(secret),
            quote_plus(secret),
            repr(secret)[1:-1],
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            secret.encode("ascii", "backslashreplace").decode(),
            # As a line of its own in a log: a secret of several lines is written one by one.
            *secret.splitlines(),
        }
        known = {form for form in forms if len(form) >= SHORTEST} | set(self._forms)
        # Longest first: one may be a part of another.
        self._forms = tuple(sorted(known, key=lambda form: (-len(form), form)))

    def mask(self, text: str) -> str:
        """The text with `***` for each secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text


SECRETS = Secrets()
"""Those of this process."""
