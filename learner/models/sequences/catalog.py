"""Readers of histories by their names, as `model.history` has them."""

from collections.abc import Callable, Mapping, Sequence

from learner.config import FieldSettings, ModelSettings
from learner.models.sequences.din import DIN, MultiDIN
from learner.models.sequences.dmt import DMT
from learner.models.sequences.mean import Mean
from learner.models.sequences.reader import Reader
from learner.models.sequences.sif import SIF
from learner.models.sequences.sim import SIM

READERS: Mapping[str, Callable[[ModelSettings, Sequence[FieldSettings], int], Reader]] = {
    "mean": lambda model, fields, num_histories: Mean(num_histories, model.dim),
    "din": lambda model, fields, num_histories: DIN(num_histories, model.dim, hidden=model.history_hidden),
    "multi_din": lambda model, fields, num_histories: MultiDIN(num_histories, model.dim, hidden=model.history_hidden),
    "dmt": lambda model, fields, num_histories: DMT(
        num_histories, model.dim, num_heads=model.history_heads, length=model.history_items
    ),
    "sim": lambda model, fields, num_histories: SIM(num_histories, model.dim, num_heads=model.history_heads),
    "sif": SIF,
}
"""Name -> what makes it, of settings, fields and H."""


def build_reader(settings: ModelSettings, fields: Sequence[FieldSettings], num_histories: int) -> Reader | None:
    """The reader that the settings name, of H histories; None if there is nothing to read.

    >>> build_reader(ModelSettings(history="din"), [], 0) is None
    True
    """
    if settings.history == "none" or not num_histories:
        return None
    return READERS[settings.history](settings, fields, num_histories)
