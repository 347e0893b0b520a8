"""Tables of retrieval: variants beside the base, with paired intervals."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from learner.retrieval.hourly import COHORTS, HourFigures
from simulators.experiments.kept import Kept
from simulators.experiments.ratings import Ratings
from simulators.experiments.reporting.markdown import figure, table, with_interval
from simulators.experiments.split import random_split
from simulators.experiments.statistics.bootstrap import NUM_REPLICATES, Interval, UserBootstrap, interval
from simulators.experiments.statistics.replicates import drawn_users
from simulators.retrieval.runs import SplitResult, StreamResult

R = TypeVar("R", SplitResult, StreamResult)
PAPER = {"masks": (0.05, 0.03), "adapter": (0.12, 0.11), "full": (0.15, 0.17), "ssl": (0.14, 0.12)}
"""AdaF2M2, Table 4: per cent of AUC and of UAUC over the base, on the paper's own data."""
_DAY_MS = 86_400_000


def split_report(ratings: Ratings, kept: Kept[SplitResult], results: Sequence[SplitResult], command: str) -> str:
    """Table 4 on a split: means over seeds, differences to the base at the same seeds.

    Args:
        ratings: the log.
        kept: where results are.
        results: by variant and seed.
        command: how it was called.
    """
    num, num_users = results[0].run.num, len(ratings.users.ids_E)
    seeds = sorted({result.run.seed for result in results})
    judge = _SplitJudge(ratings, kept)
    by_variant = _by_variant(results)
    base = {result.run.seed: result for result in by_variant.get("base", [])}
    rows = []
    for variant, several in by_variant.items():
        row = [variant, *(figure(_mean(getattr(r.figures, name) for r in several)) for name in _FIGURES)]
        pairs = [(base[r.run.seed], r) for r in several if r.run.seed in base and variant != "base"]
        row += [with_interval(judge.difference(pairs, name)) if pairs else "-" for name in ("recall", "auc", "uauc")]
        row.append(" / ".join(f"+{each} %" for each in PAPER[variant]) if variant in PAPER else "-")
        rows.append(row)
    head = ["variant", f"recall@{num}", f"NDCG@{num}", "AUC", "UAUC"]
    head += [f"recall@{num} less base", "AUC less base", "UAUC less base", "paper's AUC / UAUC"]
    loss, popular = results[0].run.settings.loss, _mean(result.figures.popular_recall for result in results)
    return "\n".join(
        [
            f"Two-tower retrieval, {loss} loss; random 6:2:2, seeds {', '.join(map(str, seeds))}, {num_users:,} users; "
            f"the best epoch by validation recall. The most popular items, given to all: recall {figure(popular)}. "
            "Intervals: paired bootstrap over users, 95 %. The paper's lifts are in per cent of AUC, on its own data.",
            "",
            f"    {command}",
            "",
            table(head, rows),
        ]
    )


_FIGURES = ("recall", "ndcg", "auc", "uauc")


class _SplitJudge:
    """Replicates of figures over users, the same draws for every run."""

    def __init__(self, ratings: Ratings, kept: Kept[SplitResult]) -> None:
        self._ratings, self._kept = ratings, kept
        num_users = len(ratings.users.ids_E)
        self._counts_UR = drawn_users(num_users, NUM_REPLICATES, 0)
        self._bootstrap = UserBootstrap(num_users)
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def difference(self, pairs: Sequence[tuple[SplitResult, SplitResult]], name: str) -> Interval:
        """Of a figure, mean over the pairs."""
        found_PR = [self._replicates(other, name) - self._replicates(base, name) for base, other in pairs]
        return interval(np.mean(found_PR, axis=0))

    def _replicates(self, result: SplitResult, name: str) -> np.ndarray:
        key = result.run.name, name
        if key not in self._known:
            self._known[key] = self._new(result, name)
        return self._known[key]

    def _new(self, result: SplitResult, name: str) -> np.ndarray:
        run = result.run
        if name == "recall":
            users_G, recall_G = (self._kept.array(run.name, of) for of in ("users", "recall"))
            drawn_GR = self._counts_UR[users_G].astype(np.float64)
            mean_R: np.ndarray = (recall_G @ drawn_GR) / drawn_GR.sum(axis=0)
            return mean_R
        test_N = random_split(len(self._ratings), run.seed, share=run.share).test_N
        labels_N, users_N = self._ratings.labels_N[test_N], self._ratings.users_N[test_N]
        of = self._bootstrap.auc if name == "auc" else self._bootstrap.user_auc
        return of(labels_N, self._kept.array(run.name, "scores"), users_N)


def stream_report(results: Sequence[StreamResult], command: str) -> str:
    """The stream, hour by hour, summed up: means over users' hours, and over seeds.

    Args:
        results: by variant and seed.
        command: how it was called.
    """
    num = results[0].run.num
    by_variant = _by_variant(results)
    base = {result.run.seed: result for result in by_variant.get("base", [])}
    rows = []
    for variant, several in by_variant.items():
        row = [variant, *(figure(_mean(getattr(r.total, name) for r in several)) for name in ("recall", "ndcg"))]
        pairs = [(base[r.run.seed], r) for r in several if r.run.seed in base and variant != "base"]
        row.append(with_interval(_over_days(pairs)) if pairs else "-")
        for cohort in range(len(COHORTS)):
            positives = sum(r.total.positives_C[cohort] for r in several)
            row.append(figure(sum(r.total.found_C[cohort] for r in several) / positives if positives else None))
        rows.append(row)
    ends = [f"-{more - 1}" for more in COHORTS[1:]] + ["+"]
    cohorts = [f"{least}{end}".removesuffix("-0") for least, end in zip(COHORTS, ends, strict=True)]
    whole, run = results[0].total, results[0].run
    seeds = ", ".join(str(seed) for seed in sorted({result.run.seed for result in results}))
    return "\n".join(
        [
            f"Two-tower retrieval in the stream, {run.settings.loss} loss; one pass, vectors as of each hour's start; "
            f"{len(results[0].hours):,} hours, {whole.num_samples:,} samples, {whole.num_users:,} users' hours with a "
            f"positive; seeds {seeds}. By items' earlier impressions: the share of positives that were found. The "
            f"most popular items, given to all: recall {figure(whole.popular_recall)}. Intervals: paired bootstrap "
            "over days.",
            "",
            f"    {command}",
            "",
            table(
                [
                    "variant",
                    f"recall@{num}",
                    f"NDCG@{num}",
                    f"recall@{num} less base",
                    *(f"items {c}" for c in cohorts),
                ],
                rows,
            ),
        ]
    )


def _over_days(pairs: Sequence[tuple[StreamResult, StreamResult]], num_replicates: int = NUM_REPLICATES) -> Interval:
    """Difference of recall, mean over the pairs; days are drawn anew."""
    days = sorted({hour.hour_ms // _DAY_MS for hour in pairs[0][0].hours})
    drawn_DR = drawn_users(len(days), num_replicates, 0).astype(np.float64)
    found_PR = [_daily(other.hours, days) @ drawn_DR for _, other in pairs]
    before_PR = [_daily(base.hours, days) @ drawn_DR for base, _ in pairs]
    differences_PR = [new[0] / new[1] - old[0] / old[1] for new, old in zip(found_PR, before_PR, strict=True)]
    return interval(np.mean(differences_PR, axis=0))


def _daily(hours: Sequence[HourFigures], days: Sequence[int]) -> np.ndarray:
    """Sums of recall and numbers of users by day, shape (2, D)."""
    at_H = np.searchsorted(days, [hour.hour_ms // _DAY_MS for hour in hours])
    sums = [[hour.recall_sum for hour in hours], [hour.num_users for hour in hours]]
    return np.stack([np.bincount(at_H, np.array(of_H, np.float64), len(days)) for of_H in sums])


def _by_variant(results: Iterable[R]) -> dict[str, list[R]]:
    found: dict[str, list[R]] = {}
    for result in results:
        found.setdefault(result.run.variant, []).append(result)
    return found


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
