"""Columns are the rows that they were made of."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stream.join.kernels.words import FEEDBACK, HEARTBEAT, IMPRESSION, MALFORMED, REROUTED
from stream.join.records import RecordColumns

IDS, WHOLE = st.text(min_size=1, max_size=6), st.integers(0, 2**53)
WHENS = st.tuples(st.sampled_from([MALFORMED, HEARTBEAT, REROUTED]), WHOLE, WHOLE)
IMPRESSIONS = st.tuples(st.just(IMPRESSION), WHOLE, WHOLE, IDS, IDS, IDS, st.integers(1, 10**6))
FEEDBACKS = st.tuples(st.just(FEEDBACK), WHOLE, WHOLE, IDS, IDS, IDS, st.integers(1, 8))
VALUED = st.tuples(FEEDBACKS, st.floats(-1e15, 1e15)).map(lambda pair: (*pair[0], pair[1]))


@given(st.lists(WHENS | IMPRESSIONS | FEEDBACKS | VALUED, max_size=12), st.data())
@hypothesis_settings(deadline=None)
def test_rows_become_columns_and_columns_rows(rows: list[tuple], data: st.DataObject) -> None:
    columns = RecordColumns.of_rows(rows)
    assert list(columns) == rows
    assert len(columns) == len(rows)
    if rows:
        n = data.draw(st.integers(-len(rows), len(rows) - 1))
        assert columns[n] == rows[n]
    assert columns[1:7:2] == rows[1:7:2]
    events = [row for row in rows if row[0] in (IMPRESSION, FEEDBACK)]
    for which in range(3):
        assert columns.ids(which, columns.are_events).several(0, len(events)) == [row[3 + which] for row in events]
