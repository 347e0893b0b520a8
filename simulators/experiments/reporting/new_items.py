"""New items as tables: figures of their first impressions with chance's start, and what other starts change."""

from collections.abc import Iterator, Sequence

from simulators.experiments.new_items.arms import IDS, RANDOM, WHOLE
from simulators.experiments.new_items.judge import (
    AUC,
    KINDS,
    LATE,
    LIMITS,
    LOG_LOSS,
    SERVED_AUC,
    WITHHELD,
    NewItemsJudge,
)
from simulators.experiments.new_items.run import NewItems, NewItemsResult
from simulators.experiments.reporting.markdown import figure, signed, table
from simulators.experiments.statistics.bootstrap import Interval

_MODELS = {WHOLE: "the model as it is set", IDS: "a model to which an item is its id alone"}
_KINDS = {WITHHELD: "withheld until the middle", LATE: "first there behind the middle"}


def report(experiment: NewItems, results: Sequence[NewItemsResult], command: str) -> str:
    """All tables in Markdown.

    Args:
        experiment: whose they are.
        results: of it; at least one.
        command: which command made them.
    """
    judge, first = NewItemsJudge(experiment, results), results[0]
    stands = ", ".join(
        f"{name} {first.versions[name]}" for name in ("python", "numba", "numpy") if name in first.versions
    )
    seeds = ", ".join(map(str, sorted({each.seed for each in results})))
    made = (
        f"`{command}`\n\n{stands}; {max(each.date for each in results)}; seeds {seeds} of the learner and of what is "
        "withheld. First row: figures of the first 1, 2, 5, ... impressions of new items that start by chance; below, "
        "what another start changes, mean over seeds, with the 95 % interval of a paired bootstrap over users, bold "
        "where it excludes zero. As served: predicted when the impression passed."
    )
    parts = [f"### New items: {experiment.recording.header.log}, {experiment.recording.settings.main_task.name}", made]
    for model in dict.fromkeys(each.model for each in results):
        for kind in KINDS:
            parts += _of_kind(judge, model, kind, list(dict.fromkeys(each.arm for each in results)))
    return "\n\n".join(parts) + "\n"


def _of_kind(judge: NewItemsJudge, model: str, kind: str, arms: Sequence[str]) -> Iterator[str]:
    if not judge.seeds(model, RANDOM):
        return
    yield f"#### Items {_KINDS[kind]}: {_MODELS[model]}"
    others = [arm for arm in arms if arm != RANDOM and judge.seeds(model, arm, RANDOM)]
    for name in (SERVED_AUC, AUC, LOG_LOSS):
        rows = [[RANDOM, *(figure(judge.figure(model, RANDOM, kind, name, limit)) for limit in LIMITS)]]
        for arm in others:
            found = [judge.difference(model, (arm, RANDOM), kind, name, limit) for limit in LIMITS]
            rows.append([arm, *(_short(each) for each in found)])
        sizes = [f"{limit} ({judge.sizes(model, RANDOM, kind, limit):,.0f})" for limit in LIMITS]
        yield table([name, *sizes], rows)


def _short(found: Interval) -> str:
    """A difference and half of its interval."""
    value = signed(found.value)
    half = figure((found.high - found.low) / 2)
    return f"{f'**{value}**' if found.excludes_zero else value} ± {half}"
