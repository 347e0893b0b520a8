"""Tokens of JSON: what is taken is what `json` takes, and numbers are rounded as Python rounds them."""

import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.ingest.plain.tokens import is_whole, number_end, number_of, space_end, value_end, whole_of

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DIGITS = st.text("0123456789", max_size=22)
LIKE_NUMBERS = st.tuples(
    st.sampled_from(["", "-"]), DIGITS, st.sampled_from(["", "."]), DIGITS, st.sampled_from(["", "", "e5", "E-3", "e+"])
).map("".join)


def array(text: str) -> np.ndarray:
    return np.frombuffer(text.encode() or b" ", np.uint8)


def is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=pytest.fail)
    except ValueError:
        return False
    return True


@given(LIKE_NUMBERS)
@hypothesis_settings(deadline=None)
def test_a_number_ends_where_it_ends(text: str) -> None:
    size = len(text)
    assert (number_end(array(text), 0, size) == size) == is_json(text)


@given(
    st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers(-(10**20), 10**20).map(str) | LIKE_NUMBERS
)
@example("0.1")
@example("0.30000000000000004")
@example("9007199254740993")
@example("9007199254740993.5")
@example("0.999999999999999944")
@example("123456789012345.6789")
@example("1.000000000000000111")
@example("0.5000000000000000277")
def test_a_number_is_rounded_as_python_rounds_it_or_left_to_it(text: str) -> None:
    if not is_json(text):
        return
    found = number_of(array(text), 0, len(text))
    assert math.isnan(found) or found == float(text)
    is_short = len(text.replace(".", "").lstrip("-0")) <= 17 and len(text.partition(".")[2]) <= 18
    is_plain = "e" not in text.lower() and not (text[0] == "-" and float(text) == 0)
    assert not (math.isnan(found) and is_short and is_plain and abs(float(text)) < 2**53), text


@given(st.integers(-(10**20), 10**20).map(str) | LIKE_NUMBERS)
@hypothesis_settings(deadline=None)
def test_a_whole_number_is_as_python_writes_it(text: str) -> None:
    if not is_json(text):
        return
    size, is_it = len(text), text == str(json.loads(text)) and "." not in text and "e" not in text.lower()
    assert is_whole(array(text), 0, size) == (is_it and len(text.lstrip("-")) <= 18)
    assert whole_of(array(text), 0, size) == (int(text) if is_it and text[0] != "-" and size <= 18 else -1)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(
    SCALARS | st.lists(SCALARS), st.sampled_from(["", " ", "\n\t "]), st.text('",:[]{}truefalsn01-.e\\ ', max_size=12)
)
def test_a_value_ends_where_json_says(value: object, space: str, other: str) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=("," + space, ":"))
    data = text.encode("utf-8", "surrogatepass")
    is_plain = "\\" not in text
    end = value_end(np.frombuffer(data, np.uint8), 0, len(data), True)
    assert end == len(data) if is_plain else end in (-1, len(data))
    if not text.isascii():
        assert value_end(np.frombuffer(data, np.uint8), 0, len(data), False) == -1 or not is_plain
    size = len(other)
    end = value_end(array(other), space_end(array(other), 0, size), size, True)
    if end >= 0:
        assert is_json(other[:end])
