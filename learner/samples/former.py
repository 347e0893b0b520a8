"""Samples as a former version left them in outboxes: msgpack arrays, value by value. They are read into columns."""

from collections.abc import Sequence

import msgspec
import numpy as np

from learner.samples.columns import LayoutError, Samples, decode, of_cores
from learner.samples.kind import SampleKind
from learner.samples.layout import MAGICS, FeatureValue, Layout


class Shown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an impression was shown, as far as its event says."""

    domain: str | None = None
    stage: str | None = None
    position: int | None = None
    propensity: float | None = None
    served_probability: float | None = None
    served_version: int | None = None


class Core(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the impression itself said."""

    imp_id: str
    user_id: str
    item_id: str
    ts: int
    """Event time, ms."""
    produced_ms: int
    """Wall clock at which the impression was written to the log."""
    features: list[FeatureValue]
    """In the order of the declared fields, without user and item id."""
    shown: Shown | None = None


class State(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was known of user and item just before the impression."""

    user_counts: list[int]
    """Impressions, then one count per action."""
    user_norm: float
    user_norm_version: int
    user_first_ts: int
    item_counts: list[int]
    item_norm: float
    item_norm_version: int
    negative_rate: float = 1.0
    """Share of the impressions like this one that may become negatives."""


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One labelled impression."""

    kind: SampleKind
    label: int
    """Of the main task; of the task that is corrected, if it is another."""
    delay_ms: int
    """Feedback time less impression time; -1 for a negative."""
    core: Core
    state: State
    labels: int = 0
    """Bit t: the label of task t, if it is known."""
    known: int = 0
    """Bit t: whether the label of task t is known yet; 0 where there is one task only, which is."""
    task: int = 0
    """Index of the task that the sample is about."""
    values: list[float | None] | None = None
    """Value of the feedback that the sample knows of, per action; None where none of it has one."""


_TYPES: dict[str, set[type]] = {"id": {str}, "categorical": {str}, "multi": {list}, "numeric": {int, float}}
_decoder = msgspec.msgpack.Decoder(list[Sample])


def to_columns(samples: Sequence[Sample], layout: Layout) -> Samples:
    """The same samples as columns.

    Raises:
        LayoutError: they were made with other fields or actions.
    """
    for sample in samples:
        _check(sample, layout)
    columns = of_cores([_core(sample.core, layout) for sample in samples], layout)
    rows = columns.rows_B
    for name in ("kind", "label", "labels", "known", "task", "delay_ms"):
        rows[name] = [getattr(sample, name) for sample in samples]
    nothing = [None] * len(layout.actions)
    values = [[np.nan if value is None else value for value in sample.values or nothing] for sample in samples]
    rows["values"] = np.array(values).reshape(rows["values"].shape)
    for name in State.__struct_fields__:
        of_samples = [getattr(sample.state, name) for sample in samples]
        rows[name] = np.array(of_samples).reshape(rows[name].shape)
    return columns


def _check(sample: Sample, layout: Layout) -> None:
    """Whether it was made with the fields and actions of a layout, as far as can be told.

    Fields that are declared behind those it has came since, and are empty.
    """
    kinds = [field.kind for field in layout.fields if field.name not in ("user_id", "item_id")]
    features = sample.core.features
    fits = len(features) <= len(kinds) and len(sample.state.user_counts) == 1 + len(layout.actions)
    if not fits or any(v is not None and type(v) not in _TYPES[k] for v, k in zip(features, kinds, strict=False)):
        raise LayoutError(
            f"samples of a former version wait, made with other [[fields]] or [actions] than {layout.describe()}: "
            "start the learner with the settings that their worker had until they are learned"
        )


def _core(core: Core, layout: Layout) -> bytes:
    shown = None if core.shown is None else (*msgspec.structs.astuple(core.shown), None, None, None)
    times = core.ts, core.produced_ms
    came_since = [None] * (len(layout.fields) - 2 - len(core.features))
    return layout.pack_core(core.imp_id, core.user_id, core.item_id, times, [*core.features, *came_since], shown)


def read_entry(entry: bytes, layout: Layout) -> Samples:
    """Read an entry of an outbox, of whichever version.

    Raises:
        LayoutError: its columns are of another layout.
    """
    is_columns = entry.startswith(MAGICS)
    return decode(entry, layout) if is_columns else to_columns(_decoder.decode(entry), layout)
