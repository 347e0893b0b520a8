"""`coldstream bench hindsight`: how well could a user's first impressions be predicted by who knows the whole log?

A learner in a stream knows what came before. Here are predictors that know what every *other* user of the log did,
before and after: the rate of an item among all of them, and boosted trees on that rate, on the same by each attribute
of the user, on the attributes, and on what is known of the item. Users are predicted by what was learned without them,
in five folds; rates that trees learn from leave the user's own fold out, too. What these reach nobody reaches who only
knows the past, unless by chance; intervals are of a bootstrap over users.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from chosen_log import add_log_options, chosen_log
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier

from simulators.experiments.statistics.bootstrap import UserBootstrap, interval
from simulators.logs.log import Log
from stream.command.doctor import versions
from stream.settings import load_settings

_FOLDS = 5
_PRIOR = 5.0
"""Samples that the mean rate of all counts as in an item's."""
_PRIOR_BY_VALUE = 20.0
"""Samples that an item's rate counts as in its rate among users of one attribute's value."""
_LEARNED_FROM = 200_000
"""Rows that trees learn from, drawn from those of the other folds."""
_MOST_VALUES = 64
"""Of a field of lists; of more than these, as of words of a title, nobody could learn by a column for each."""
_COHORTS = {"first impression": 1, "users < 10": 10}


class Rows(msgspec.Struct):
    """A log as numbers; N rows, of F features of the user and G of the item."""

    users_N: np.ndarray
    items_N: np.ndarray
    labels_N: np.ndarray
    earlier_N: np.ndarray
    """Impressions of the user before this one."""
    times_N: np.ndarray
    of_user_NF: np.ndarray
    """Numbers of the values of each field of the user's that has one."""
    of_item_NG: np.ndarray
    """Likewise of the item's; of a list, whether each value is in it."""

    def __len__(self) -> int:
        return len(self.users_N)


def read(log: Log, num_rows: int) -> Rows:
    """The first rows of a log, as the first kind of feedback labels them."""
    columns: dict[str, list[Any]] = {name: [] for name in ("user", "item", "label", "ts", "of_user", "of_item")}
    for stretch in log.stretches(num_rows=num_rows):
        shown = stretch.filter(stretch["shown"])
        for user, item, ts, label in shown.select("user_id", "item_id", "ts", "feedback.0").iter_rows():
            values = user, item, bool(label), ts, log.users.get(user, ts), log.items.get(item, ts)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    users_N = _numbers(columns["user"])
    fields = load_settings(environment={}, defaults=log.settings).fields
    return Rows(
        users_N,
        _numbers(columns["item"]),
        np.array(columns["label"], np.float64),
        _earlier(users_N),
        np.array(columns["ts"], np.float64),
        _features(columns["of_user"], [field.name for field in fields if field.group == "user"]),
        _features(columns["of_item"], [field.name for field in fields if field.group == "item"]),
    )


def _numbers(values: list[Any]) -> np.ndarray:
    return np.unique(np.array(values, str), return_inverse=True)[1]


def _earlier(users_N: np.ndarray) -> np.ndarray:
    counts, earlier_N = np.zeros(users_N.max(initial=0) + 1, np.int64), np.zeros(len(users_N), np.int64)
    for n, user in enumerate(users_N):
        earlier_N[n] = counts[user]
        counts[user] += 1
    return earlier_N


def _features(rows: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    found = [np.zeros((len(rows), 0))]
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, list) for value in values):
            all_values = sorted({each for value in values for each in value or ()})
            for one in all_values if len(all_values) <= _MOST_VALUES else ():
                found.append(np.array([[one in (value or ())] for value in values], np.float64))
        elif any(value is not None for value in values):
            found.append(_numbers(values).astype(np.float64)[:, None])
    return np.concatenate(found, axis=1)


class Rates:
    """Shares of positives of items, among some of the rows.

    Args:
        rows: of the log.
        known_N: whose labels are known.
    """

    def __init__(self, rows: Rows, known_N: np.ndarray) -> None:
        self._rows, self._known_N = rows, known_N
        self._mean = float(rows.labels_N[known_N].mean())

    def of_items(self, at_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rates of the items of these rows, and how many samples they are of."""
        sums_M, counts_M = self._sums(self._rows.items_N, at_M)
        return (sums_M + _PRIOR * self._mean) / (counts_M + _PRIOR), counts_M

    def by_value(self, at_M: np.ndarray, feature: int, of_items_M: np.ndarray) -> np.ndarray:
        """Rates of these rows' items among users with the row's value of a feature."""
        values_N = self._rows.of_user_NF[:, feature].astype(np.int64)
        sums_M, counts_M = self._sums(self._rows.items_N * (values_N.max() + 1) + values_N, at_M)
        return (sums_M + _PRIOR_BY_VALUE * of_items_M) / (counts_M + _PRIOR_BY_VALUE)

    def _sums(self, keys_N: np.ndarray, at_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        known_N, size = self._known_N, int(keys_N.max()) + 1
        sums = np.bincount(keys_N[known_N], self._rows.labels_N[known_N], size)
        return sums[keys_N[at_M]], np.bincount(keys_N[known_N], minlength=size)[keys_N[at_M]]


def rate_so_far(rows: Rows) -> np.ndarray:
    """What popularity says in a stream: the item's rate before the row."""
    size, mean = int(rows.items_N.max()) + 1, float(rows.labels_N.mean())
    sums, counts, found_N = np.zeros(size), np.zeros(size), np.zeros(len(rows))
    for n, (item, label) in enumerate(zip(rows.items_N, rows.labels_N, strict=True)):
        found_N[n] = (sums[item] + _PRIOR * mean) / (counts[item] + _PRIOR)
        sums[item] += label
        counts[item] += 1
    return found_N


def _inputs(rows: Rows, known_N: np.ndarray, at_M: np.ndarray) -> np.ndarray:
    rates = Rates(rows, known_N)
    of_items_M, counts_M = rates.of_items(at_M)
    by_value = [rates.by_value(at_M, f, of_items_M) - of_items_M for f in range(rows.of_user_NF.shape[1])]
    own = [of_items_M, counts_M, rows.times_N[at_M], *by_value]
    return np.column_stack([*own, rows.of_user_NF[at_M], rows.of_item_NG[at_M]])


def in_hindsight(rows: Rows, judged_N: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """By the item's rate among all users of other folds, and by trees; of rows that are not judged 0.

    Args:
        rows: of the log.
        judged_N: which are predicted.
        seed: of folds, of the rows that trees learn from, and of trees.
    """
    generator = np.random.default_rng(seed)
    fold_N = generator.integers(0, _FOLDS, rows.users_N.max() + 1)[rows.users_N]
    by_rate_N, by_trees_N = np.zeros(len(rows)), np.zeros(len(rows))
    for fold in range(_FOLDS):
        known_N = fold_N != fold
        at_M = np.flatnonzero(~known_N & judged_N)
        by_rate_N[at_M] = Rates(rows, known_N).of_items(at_M)[0]
        model = HistGradientBoostingClassifier(
            max_iter=200, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=200, random_state=seed
        )
        model.fit(*_lessons(rows, fold_N, fold, generator))
        by_trees_N[at_M] = model.predict_proba(_inputs(rows, known_N, at_M))[:, 1]
    return by_rate_N, by_trees_N


def _lessons(rows: Rows, fold_N: np.ndarray, but: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What trees learn from: each row with rates that do without its own fold."""
    inputs, labels = [], []
    for fold in range(_FOLDS):
        if fold == but:
            continue
        at_M = np.flatnonzero(fold_N == fold)
        at_M = generator.permutation(at_M)[: _LEARNED_FROM // (_FOLDS - 1)]
        inputs.append(_inputs(rows, (fold_N != fold) & (fold_N != but), at_M))
        labels.append(rows.labels_N[at_M])
    return np.concatenate(inputs), np.concatenate(labels)


def measure(rows: Rows, seeds: list[int], replicates: int) -> Iterator[dict[str, Any]]:
    """A row of the table for each predictor, and each seed where there is chance in it."""
    judged_N = rows.earlier_N < max(_COHORTS.values())
    yield _judged("item's rate so far", None, rows, rate_so_far(rows), replicates)
    for seed in seeds:
        by_rate_N, by_trees_N = in_hindsight(rows, judged_N, seed)
        yield _judged("item's rate in hindsight", seed, rows, by_rate_N, replicates)
        yield _judged("trees in hindsight", seed, rows, by_trees_N, replicates)


def _judged(name: str, seed: int | None, rows: Rows, scores_N: np.ndarray, replicates: int) -> dict[str, Any]:
    found: dict[str, Any] = {"predictor": name, "seed": seed}
    for cohort, below in _COHORTS.items():
        at = rows.earlier_N < below
        users, labels, scores = rows.users_N[at], rows.labels_N[at], scores_N[at]
        area = interval(UserBootstrap(int(users.max()) + 1, replicates).auc(labels, scores, users))
        found[cohort] = {"samples": int(at.sum()), "auc": area.value, "low": area.low, "high": area.high}
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="coldstream bench hindsight", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="rows of the log; all, if there are fewer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of folds and trees")
    parser.add_argument("--replicates", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    add_log_options(parser)
    options = parser.parse_args(arguments)
    log = chosen_log(options, options.events)
    found = list(measure(read(log, options.events), options.seeds, options.replicates))
    report = {"results": found, "data": log.source, "versions": versions()}
    if options.json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title="AUC, with the 95 % interval over users")
    table.add_column("predictor")
    table.add_column("seed", justify="right")
    for cohort in _COHORTS:
        table.add_column(cohort, justify="right")
    for row in found:
        areas = [f"{row[c]['auc']:.4f} ({row[c]['low']:.4f} to {row[c]['high']:.4f})" for c in _COHORTS]
        table.add_row(row["predictor"], str(row["seed"] if row["seed"] is not None else "-"), *areas)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
