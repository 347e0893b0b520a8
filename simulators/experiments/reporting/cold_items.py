"""Cold items as a table: AUC after each warm-up step, ours beside others."""

from collections.abc import Sequence

import numpy as np

from simulators.experiments.cold_items.run import OURS, ColdItems, ColdResult, name_of
from simulators.experiments.cold_items.split import PHASES
from simulators.experiments.kept import Kept
from simulators.experiments.reporting.markdown import figure, table, with_interval
from simulators.experiments.statistics.bootstrap import UserBootstrap, interval

_REPLICATES = 400
PUBLISHED = {
    "CVAR": (0.7370, 0.7894, 0.8007, 0.8036),
    "MWUF": (0.7300, None, None, 0.7691),
    "Meta-Embedding": (0.7343, None, None, 0.7680),
    "DropoutNet": (0.7406, None, None, 0.7661),
    "DeepFM": (0.7294, 0.7452, 0.7580, 0.7686),
}
"""The CVAR paper's code with DeepFM, run as it is; mean of seeds 1234 and 7. It has 20 update rounds in each warm-up
step where the others have one."""
TARGETS = (0.740, 0.790, 0.800, 0.803)


def report(experiment: ColdItems, kept: Kept[ColdResult], results: Sequence[ColdResult], command: str) -> str:
    """The table in Markdown.

    Args:
        experiment: whose split it is.
        kept: where predictions are.
        results: of all methods, by seed; ours are among them.
        command: which command made it.
    """
    methods = list(dict.fromkeys(result.method for result in results))
    seeds = sorted({result.seed for result in results})
    ratings, split = experiment.ratings, experiment.split
    labels_N, users_N = ratings.labels_N[split.test_N], ratings.users_N[split.test_N]
    bootstrap = UserBootstrap(len(ratings.users.ids_E), _REPLICATES)

    def replicates(method: str, phase: str) -> np.ndarray:
        of_seeds = [kept.array(name_of(method, seed), phase) for seed in seeds]
        mean_R: np.ndarray = np.mean([bootstrap.auc(labels_N, each, users_N) for each in of_seeds], axis=0)
        return mean_R

    ours = {phase: replicates(OURS, phase) for phase in PHASES}
    rows = []
    for method in methods:
        cells = []
        for phase in PHASES:
            of_method = ours[phase] if method == OURS else replicates(method, phase)
            text = figure(float(of_method[0]))
            cells.append(text if method == OURS else f"{text}; {with_interval(interval(ours[phase] - of_method))}")
        seconds = np.mean([result.seconds for result in results if result.method == method])
        rows.append([method, *cells, f"{seconds:.0f}"])
    rows += [[f"{name}, its code", *map(figure, aucs), ""] for name, aucs in PUBLISHED.items()]
    rows.append(["aimed at", *map(figure, TARGETS), ""])
    first = results[0]
    base, *steps, test = first.sizes
    stands = ", ".join(
        f"{name} {first.versions[name]}" for name in ("python", "torch", "numba") if name in first.versions
    )
    made = (
        f"`{command}`\n\n{stands}; {max(result.date for result in results)}; seeds {', '.join(map(str, seeds))}. Base: "
        f"{base:,} ratings of items with more than 200. Three steps of 20 ratings of each of the others with at least "
        f"60 ({steps[0]:,} a step); test: their rest, {test:,}. {OURS} is the product's learner with its defaults: each "
        "sample once, in the order of time. Behind a comparator's AUC: ours less it, with the 95 % interval of a "
        "paired bootstrap over users; bold where it excludes zero."
    )
    head = "### Cold items: MovieLens-1M, the CVAR paper's split"
    return "\n\n".join([head, made, table(["", *PHASES, "seconds"], rows)]) + "\n"
