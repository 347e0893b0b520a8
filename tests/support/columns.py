"""Samples one by one, from the columns of outbox entries, and back."""

from collections.abc import Iterable, Sequence

import numpy as np

from learner.config import FieldSettings
from learner.samples.columns import Samples
from learner.samples.former import Core, Sample, Shown, State, read_entry, to_columns
from learner.samples.kind import SampleKind
from learner.samples.layout import Layout


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def records_of(samples: Samples) -> list[Sample]:
    """One by one. Of features only the keys are known: one per value, a list for a multi-valued field."""
    layout, bounds, found = samples.layout, samples.key_bounds, []
    for n, row in enumerate(samples.rows_B):
        imp, user, item, domain, stage = samples.texts[5 * n : 5 * n + 5]
        version = int(row["served_version"])
        shown = Shown(
            domain,
            stage,
            int(row["position"]) if row["position"] >= 0 else None,
            _known(row["propensity"]),
            _known(row["served_probability"]),
            version if version >= 0 else None,
        )
        values = [_known(value) for value in row["values"]]
        of_multi = iter(np.split(samples.keys_M[bounds[n] : bounds[n + 1]], np.cumsum(row["sizes"])[:-1]))
        features: list = [None] * len(layout.fields)
        for k, field in enumerate(layout.single):
            features[field] = int(row["keys"][k])
        for k, field in enumerate(layout.numeric):
            features[field] = float(row["numbers"][k])
        for field in layout.multi:
            features[field] = next(of_multi).tolist()
        own = (layout.single[layout.user_column], layout.single[layout.item_column])
        core = Core(
            imp,
            user,
            item,
            int(row["ts"]),
            int(row["produced_ms"]),
            [value for field, value in enumerate(features) if field not in own],
            None if shown == Shown() else shown,
        )
        state = State(
            row["user_counts"].tolist(),
            float(row["user_norm"]),
            int(row["user_norm_version"]),
            int(row["user_first_ts"]),
            row["item_counts"].tolist(),
            float(row["item_norm"]),
            int(row["item_norm_version"]),
            float(row["negative_rate"]),
        )
        found.append(
            Sample(
                SampleKind(row["kind"]),
                int(row["label"]),
                int(row["delay_ms"]),
                core,
                state,
                int(row["labels"]),
                int(row["known"]),
                int(row["task"]),
                None if all(value is None for value in values) else values,
            )
        )
    return found


def labelled(
    entries: Iterable[bytes], fields: Sequence[FieldSettings], actions: Sequence[str], *, shown: bool = False
) -> list[Sample]:
    """The samples of outbox entries that bring a label; with `shown`, also those that say that they were shown, or that
    their negative is settled."""
    layout = Layout(fields, actions)
    found = [sample for entry in entries for sample in records_of(read_entry(entry, layout))]
    return [sample for sample in found if shown or sample.kind not in (SampleKind.SHOWN, SampleKind.SETTLED)]


def columns(samples: Sequence[Sample], fields: Sequence[FieldSettings], actions: Sequence[str] = ("like",)) -> Samples:
    """Samples as a learner takes them."""
    return to_columns(samples, Layout(fields, actions))
