"""`coldstream bench estimator`: `learner.river.ColdstreamClassifier` beside River's logistic regression.

Progressive validation by River: each sample is predicted, then learned from. Nothing is tuned here, but for the rate of
FTRL, which is `quality/rivals.py`'s.

Phishing and Bananas come with River. They have neither users nor items, so neither factors nor cohorts come into it:
compared are a line through each scaled feature, weights of buckets, and weights of pairs of buckets. MovieLens-1M is
what the learner is for: its first ratings in order, 4 and more positive, with the fields and crosses of its mapping.
"""

import argparse
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
from river import compose, datasets, evaluate, linear_model, metrics, optim, preprocessing
from river.base import Classifier

from learner.config import FieldSettings
from learner.fast.config import CrossSettings
from learner.river import ColdstreamClassifier
from simulators.logs.errors import DataError
from simulators.logs.open import open_log

Makers = dict[str, Callable[[], Classifier]]


def _scaled() -> Classifier:
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())


def _one_hot(model: Classifier) -> Classifier:
    return compose.Pipeline(compose.FuncTransformer(_indicators), model)


def _indicators(x: dict[str, Any]) -> dict[str, float]:
    """A weight of 1 for each value, shared where there are several."""
    found = {}
    for name, value in x.items():
        several = value if isinstance(value, list) else [value]
        found |= {f"{name}={each}": 1.0 / len(several) for each in several}
    return found


def _crossed(names: list[str]) -> Classifier:
    fields = tuple(FieldSettings(name, "context", "numeric") for name in names)
    return ColdstreamClassifier(fields, crosses=tuple(combinations(names, 2)))


def _shipped(dataset: Callable[[], datasets.base.Dataset]) -> Makers:
    features = sorted(next(iter(dataset()))[0])
    return {
        "StandardScaler | LogisticRegression": _scaled,
        "ColdstreamClassifier": ColdstreamClassifier,
        "ColdstreamClassifier, all pairs crossed": lambda: _crossed(features),
    }


def _movielens(num_rows: int, data: Path | None) -> tuple[list[tuple[dict[str, Any], bool]], Makers]:
    log = open_log("ml-1m", data)
    rows = next(log.stretches(num_rows=num_rows))
    samples = []
    for user, item, ts, is_positive in rows.select("user_id", "item_id", "ts", "feedback.0").iter_rows():
        features = {**log.users.get(user, ts), **log.items.get(item, ts)}
        samples.append(({"user": user, "item": item, **features}, bool(is_positive)))
    fields = msgspec.convert(log.settings["fields"], tuple[FieldSettings, ...])
    crosses = tuple(cross.fields for cross in msgspec.convert(log.settings["crosses"], tuple[CrossSettings, ...]))
    return samples, {
        "one-hot | LogisticRegression": lambda: _one_hot(linear_model.LogisticRegression()),
        "one-hot | LogisticRegression, FTRL": lambda: _one_hot(
            linear_model.LogisticRegression(optim.FTRLProximal(alpha=0.5, beta=1.0, l1=0.0, l2=0.0))
        ),
        "ColdstreamClassifier, inferred": ColdstreamClassifier,
        "ColdstreamClassifier, declared": lambda: ColdstreamClassifier(fields, crosses=crosses),
    }


def _print(name: str, samples: Iterable[Any], num_samples: int, makers: Makers) -> None:
    for label, make in makers.items():
        both = metrics.ROCAUC(n_thresholds=200) + metrics.Accuracy()
        evaluate.progressive_val_score(samples, make(), both)
        area, accuracy = (metric.get() for metric in both)
        print(f"{name:12} {num_samples:8,}  {label:40} {area:8.4f} {accuracy:9.4f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="first ratings of MovieLens-1M; 0: none")
    parser.add_argument("--data", type=Path, help="folder of MovieLens-1M, where it is not found by itself")
    given = parser.parse_args(arguments)
    print(f"{'data set':12} {'samples':>8}  {'model':40} {'ROC AUC':>8} {'accuracy':>9}")
    for dataset in (datasets.Phishing, datasets.Bananas):
        _print(dataset.__name__, dataset(), dataset().n_samples, _shipped(dataset))
    if given.events:
        try:
            samples, makers = _movielens(given.events, given.data)
        except DataError as exc:
            print(f"MovieLens-1M is left out: {exc}")
            return
        _print("MovieLens-1M", samples, len(samples), makers)


if __name__ == "__main__":
    main()
