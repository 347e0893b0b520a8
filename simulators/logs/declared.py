"""What a mapping declares to the pipeline: its settings, and the fields whose values are looked up in files."""

from typing import Any

from simulators.logs.mapping import FieldEntry, LogFiles, Mapping
from stream.events import PLACES


def looked_up(mapping: Mapping) -> list[FieldEntry]:
    """Fields that are neither ids nor reserved keys of the event."""
    return [field for field in mapping.fields if not _is_own(mapping.log, field)]


def _is_own(log: LogFiles, field: FieldEntry) -> bool:
    if field.name in ("user_id", "item_id"):
        return True
    return field.name in PLACES and not field.source and bool(getattr(log, field.name))


def settings_of(mapping: Mapping) -> dict[str, Any]:
    """What the mapping says of the pipeline's settings."""
    fields = [
        {"name": f.name, "group": f.group, "kind": f.kind, "state": f.state, "min_count": f.min_count}
        for f in mapping.fields
    ]
    names = {field.name for field in mapping.fields}
    for at, group in ((0, "user"), (len(fields), "item")):
        if f"{group}_id" not in names:
            own = {"name": f"{group}_id", "group": group, "kind": "id", "state": True, "min_count": 1}
            fields.insert(at + (group == "item" and "user_id" not in names), own)
    settings: dict[str, Any] = {"fields": fields, **mapping.settings}
    actions = list(dict.fromkeys(entry.action for entry in mapping.feedback))
    if actions:
        settings["actions"] = {"names": actions, **mapping.settings.get("actions", {})}
    return settings
