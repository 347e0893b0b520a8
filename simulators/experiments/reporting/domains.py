"""Domains as tables: figures by arm, and what each arm is above one that learns from scratch."""

from collections.abc import Mapping, Sequence

import numpy as np

from simulators.experiments.domains.arms import SCRATCH
from simulators.experiments.domains.ranking import NUM_DRAWN, gains, names
from simulators.experiments.domains.run import Domains, DomainsResult
from simulators.experiments.reporting.markdown import figure, table, with_interval
from simulators.experiments.statistics.bootstrap import NUM_REPLICATES, Interval, interval
from simulators.experiments.statistics.replicates import drawn_users

_JUDGED_BY = "NDCG@10"


def report(experiment: Domains, results: Sequence[DomainsResult], command: str) -> str:
    """All tables in Markdown.

    Args:
        experiment: whose they are.
        results: of it; at least one.
        command: which command made them.
    """
    first, target, sources = results[0], experiment.target, experiment.sources
    seeds = sorted({each.seed for each in results})
    stands = ", ".join(f"{name} {first.versions[name]}" for name in ("python", "torch") if name in first.versions)
    said = (
        f"`{command}`\n\n{stands}; {max(each.date for each in results)}; seeds {', '.join(map(str, seeds))}. Target: "
        f"{len(target.sequences):,} users, {target.num_items:,} items; sources: {len(sources.sequences):,} users, "
        f"{sources.num_items:,} items. Each user's last item is asked for, among all items and among {NUM_DRAWN} that "
        f"the user never took; the one before validates. Means over seeds; the last column: {_JUDGED_BY} among all, "
        "less that from scratch, with the 95 % interval of a paired bootstrap over users, bold where it excludes zero."
    )
    parts = [f"### {sources.name} to {target.name}", said]
    for loss in dict.fromkeys(each.loss for each in results):
        of_loss = [each for each in results if each.loss == loss]
        parts += [f"#### Loss: {loss}", *_tables(experiment, of_loss)]
    return "\n\n".join(parts) + "\n"


def _tables(experiment: Domains, results: Sequence[DomainsResult]) -> list[str]:
    arms = list(dict.fromkeys(each.arm for each in results))
    found = []
    for what, attribute in (("all items", "full"), (f"{NUM_DRAWN} drawn", "drawn")):
        rows = []
        for arm in arms:
            of_arm = [each for each in results if each.arm == arm]
            means = _means([getattr(each, attribute) for each in of_arm])
            row = [arm, *(figure(means[name]) for name in names())]
            if attribute == "full":
                compared = _difference(experiment, results[0].loss, arm, [each.seed for each in of_arm])
                row.append("" if compared is None else with_interval(compared))
            rows.append(row)
        head = [what, *names(), *([f"{_JUDGED_BY}, difference"] if attribute == "full" else [])]
        found.append(table(head, rows))
    return found


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}


def _difference(experiment: Domains, loss: str, arm: str, seeds: Sequence[int]) -> Interval | None:
    if arm == SCRATCH or any(experiment.find(SCRATCH, loss, seed) is None for seed in seeds):
        return None
    of_seed = [
        gains(experiment.ranks(arm, loss, seed).full_U)[_JUDGED_BY]
        - gains(experiment.ranks(SCRATCH, loss, seed).full_U)[_JUDGED_BY]
        for seed in seeds
    ]
    difference_U = np.mean(of_seed, axis=0)
    counts_UR = drawn_users(len(difference_U), NUM_REPLICATES, seed=0)
    return interval(difference_U @ counts_UR / len(difference_U))
