"""Whether the declared histories fit the fields and actions."""

from collections.abc import Sequence

from learner.config import BY_SAMPLE, FieldSettings, HistorySettings
from state_store.config import ActionSettings


def check_histories(
    histories: Sequence[HistorySettings], fields: Sequence[FieldSettings], actions: ActionSettings
) -> None:
    """Whether each history is of declared actions, and its category a field of the item that has one value.

    Raises:
        ValueError: names the history, what it says and what is allowed.

    >>> fields = [FieldSettings("item_id", "item", "id"), FieldSettings("genres", "item", "multi")]
    >>> check_histories([HistorySettings("liked", ("like",), by="genres")], fields, ActionSettings())
    Traceback (most recent call last):
    ...
    ValueError: histories: 'liked' is by 'genres'; it may be by a field of the item of kind id or categorical: none
    """
    names = [history.name for history in histories]
    if len(set(names)) != len(names):
        raise ValueError(f"histories: a name is declared twice: {names}")
    categories = [
        f.name for f in fields if f.group == "item" and f.kind in ("id", "categorical") and f.name != "item_id"
    ]
    for history in histories:
        unknown = sorted(set(history.actions) - set(actions.names))
        if unknown:
            raise ValueError(
                f"histories: {history.name!r} is of {unknown}, which actions.names {list(actions.names)} lacks"
            )
        if history.by not in ("", BY_SAMPLE, *categories):
            raise ValueError(
                f"histories: {history.name!r} is by {history.by!r}; it may be by a field of the item of kind id or "
                f"categorical: {', '.join(categories) or 'none'}"
            )
