import json
from urllib.parse import quote

import pytest

from stream.secrets import Secrets

ODD = [
    "s3cret-w0rd",
    "p/w#?@:%",
    "two\nlines-long",
    "\u00e7\u00f6\U0001f511\u00fc",
    "per%2Fcent",
    "quo\"te's",
    "back\\slash",
    "{brace}",
    "***x",
]


@pytest.mark.parametrize("secret", ODD)
def test_a_secret_is_masked_in_every_form_that_messages_have(secret: str) -> None:
    secrets = Secrets()
    secrets.add(secret)
    forms = [
        secret, repr(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False), quote(secret, safe=""),
        f"redis://u:{quote(secret, safe='')}@h", str(ValueError(secret)), repr({"password": secret}), ascii(secret),
    ]  # fmt: skip
    for form in forms:
        shown = secrets.mask(f"it says {form}.")
        assert "***" in shown
        for hidden in (secret, quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1]):
            assert hidden not in shown


def test_a_short_secret_does_not_mask_everything_else() -> None:
    secrets = Secrets()
    for secret in ("a", "12", "x1y", ""):
        secrets.add(secret)
    assert secrets.mask("a table of 12 rows: x1y") == "a table of 12 rows: x1y"


def test_the_longest_secret_goes_first() -> None:
    secrets = Secrets()
    secrets.add("abcd")
    secrets.add("abcdef")
    assert secrets.mask("abcdef abcd") == "*** ***"
