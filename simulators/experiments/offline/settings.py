"""What one training run is: model, variant, seed, hyper-parameters; and under which name its results are kept."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from learner.config import ModelSettings
from state_store.errors import OperatorError

Variant = Literal["base", "masks", "adapter", "full"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""Without AdaF2M2, with its feature masks and auxiliary loss, with its state-aware adapter, with both."""
MODELS: tuple[str, ...] = tuple(name for name in get_args(get_type_hints(ModelSettings)["deep"]) if name != "none")
HIDDEN, NUM_CROSS_LAYERS = (256, 128), 3
"""As the figures that this is compared with had them."""
_PARTS: dict[Variant, dict[str, Any]] = {
    "base": {"num_masks": 0, "adapter": False},
    "masks": {"adapter": False},
    "adapter": {"num_masks": 0},
    "full": {},
}
_OF_MASKS, _OF_ADAPTER = ("num_masks", "mask_", "aux_", "main_emb_grad"), ("adapter", "gate_")
"""What the settings of either begin with."""


class ChoiceError(OperatorError):
    """Something was asked for that is not to be had."""


class HyperParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """What is searched on the validation part, on the same grid for every variant."""

    lr: Annotated[float, Meta(gt=0, le=1)] = 0.003
    """Adam, of everything."""
    dim: Annotated[int, Meta(gt=0, le=4096)] = 16
    """D, length of the embeddings."""
    decay: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """Of the embeddings, decoupled (Loshchilov and Hutter 2019): each step takes lr * decay of them away."""
    batch: Annotated[int, Meta(gt=0, le=1 << 20)] = 1024
    """Samples per step."""
    init: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Standard deviation of new embeddings."""

    def __str__(self) -> str:
        return f"lr{self.lr:g}-dim{self.dim}-decay{self.decay:g}-batch{self.batch}-init{self.init:g}"


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training run."""

    model: str
    variant: Variant
    seed: Annotated[int, Meta(ge=0, lt=1 << 32)]
    """Of the split, of the initial weights, of the order of samples and of the masks."""
    hyper: HyperParameters = HyperParameters()
    options: dict[str, Any] = {}
    """Further model settings, by name."""
    epochs: Annotated[int, Meta(gt=0, le=1000)] = 12
    """At most."""
    patience: Annotated[int, Meta(gt=0, le=1000)] = 2
    """Epochs trained behind the best one; what it had beyond is what overfitting does."""
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the log's samples."""
    drops: bool = True
    """Whether the best epoch is also tested with fields missing."""

    @property
    def name(self) -> str:
        """Under which its results are kept."""
        options = "".join(f"-{name}={_short(value)}" for name, value in sorted(self.options.items()))
        return f"{self.model}-{self.variant}{options}-seed{self.seed}-{self.hyper}"


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def model_settings(run: RunSettings) -> ModelSettings:
    """Settings of a run's model.

    Raises:
        ChoiceError: the model is unknown, or an option is unknown or out of bounds.
    """
    if run.model not in MODELS:
        raise ChoiceError(f"--models {run.model}: there is no such model; there are {', '.join(MODELS)}")
    given = {
        "fast": False,
        "deep": run.model,
        "dim": run.hyper.dim,
        "hidden": HIDDEN,
        "num_cross_layers": NUM_CROSS_LAYERS,
        **run.options,
        # Last, so that an option of masks or adapter leaves those alone that have none.
        **_PARTS[run.variant],
    }
    try:
        return msgspec.convert(given, ModelSettings)
    except msgspec.ValidationError as exc:
        names = ", ".join(sorted(f"{name}={value}" for name, value in run.options.items())) or run.name
        raise ChoiceError(f"--set {names}: {exc}; `coldstream settings` shows what [model] has") from exc


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE`, values as JSON, or as they are -> model settings by name.

    >>> parse_options(["adapter_bias=0", "hidden=[64, 32]", "main_emb_grad=none"])
    {'adapter_bias': 0, 'hidden': [64, 32], 'main_emb_grad': 'none'}

    Raises:
        ChoiceError: one is not of this form.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ChoiceError(f"--set {text!r}: expected NAME=VALUE of the section [model], as in adapter_bias=0")
        try:
            found[name.removeprefix("model.")] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name.removeprefix("model.")] = value
    return found


def grid_of(**searched: Sequence[float]) -> tuple[HyperParameters, ...]:
    """Every combination of values by name.

    >>> [str(each) for each in grid_of(lr=[0.001, 0.01], batch=[256])]
    ['lr0.001-dim16-decay0-batch256-init0.01', 'lr0.01-dim16-decay0-batch256-init0.01']

    Raises:
        ChoiceError: a value is out of bounds.
    """
    found = []
    for values in product(*searched.values()):
        given = dict(zip(searched, values, strict=True))
        try:
            found.append(msgspec.convert(given, HyperParameters))
        except msgspec.ValidationError as exc:
            raise ChoiceError(f"{', '.join(f'--{name} {value:g}' for name, value in given.items())}: {exc}") from exc
    return tuple(found)


def relevant(options: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """Options that change anything about a variant: those of masks and adapter say nothing of one that has none.

    >>> relevant({"adapter_bias": 0, "num_masks": 2, "hidden": [8]}, "base")
    {'hidden': [8]}
    """
    has = _PARTS[variant]
    without = (_OF_MASKS if "num_masks" in has else ()) + (_OF_ADAPTER if "adapter" in has else ())
    return {name: value for name, value in options.items() if not name.startswith(without)}
