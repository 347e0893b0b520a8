"""The learner as an estimator of River (https://riverml.xyz). Nothing else in `learner` needs River."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from river.base import MiniBatchClassifier
from river.utils.dataframe import into_frame, into_series, to_native_frame, to_native_series

from learner.config import FieldSettings, LearnerSettings
from learner.estimator.fields import FieldBook
from learner.estimator.model import EstimatorModel
from learner.fast.config import CrossSettings, FastSettings
from learner.recipe import Recipe

_FAST = FastSettings(max_rows=10_000_000, max_cross_rows=10_000_000)
"""A fifth of the addresses that the pipeline's learner reserves, as there may be many estimators in one process."""
_LABELS = frozenset({0, 1})


class ColdstreamClassifier(MiniBatchClassifier):
    """Binary classifier for streams of users and items, with cold starts in mind.

    The fast part of the pipeline's learner (`learner/fast`), which learns from every sample by itself: first-order
    weights, crosses, products of user-side and item-side factors, weighed by a state-aware gate after AdaF2M2
    (arXiv 2501.15816, section 3.4). The counts that the gate is told are kept by the estimator, each as of just before
    its sample. A sample is a dictionary; what it lacks, and what was never learned from, is cold and no error.

    Parameters
    ----------
    fields
        Features of a sample and how each is learned (`learner.config.FieldSettings`); others are not looked at. Those
        of the groups `user` and `item` have factors, `context` has first-order weights. `user_id` and `item_id` may be
        among them, to say how ids are learned. None: fields are inferred, all as context, by their first values: str,
        bool and int are categories, float is a number (learned in buckets, half an octave of 1 + |x| wide), list,
        tuple and set have several values.
    user
        Name under which a sample says its user; a sample that does not is one of an unknown user.
    item
        Name under which a sample says its item.
    crosses
        Pairs of names of `fields` (or `user_id`, `item_id`) whose values are learned together, too.
    fast
        Settings of the fast part; None: the pipeline's defaults, with room for ten million ids and as many crosses.
    seed
        Of first values. The same samples and the same seed give the same predictions, learned one by one or many at a
        time.

    Notes
    -----
    Labels are booleans, or 0 and 1. Ids are not forgotten: memory grows with distinct values, up to `fast.max_rows` of
    them; later ones are predicted as cold ones.

    How it does under `progressive_val_score` (`coldstream bench estimator`; River 0.26.1; nothing tuned, but FTRL's
    rate of .5). Linear: `StandardScaler | LogisticRegression` on River's own data sets, which have neither users nor
    items; on the first 20,000 ratings of MovieLens-1M, 4 and more positive, one-hot before `LogisticRegression`, and
    with FTRL as its optimiser. Declared: every pair of features crossed; on MovieLens-1M the fields and crosses of
    `ml-1m.toml`.

    ============  =======  ========  ======  ======  ========  ========
    data set      samples  figure    linear    FTRL  inferred  declared
    ============  =======  ========  ======  ======  ========  ========
    Phishing        1,250  ROC AUC    .9534       –     .9671     .9710
    Phishing        1,250  accuracy   .8928       –     .9088     .9128
    Bananas         5,300  ROC AUC    .5445       –     .7359     .8880
    Bananas         5,300  accuracy   .5372       –     .6962     .7977
    MovieLens-1M   20,000  ROC AUC    .6891   .7349     .7428     .7557
    MovieLens-1M   20,000  accuracy   .6552   .6807     .6895     .6967
    ============  =======  ========  ======  ======  ========  ========

    Bananas shows what buckets are worth where classes are no half-planes, and no more: River's trees and neighbours do
    far better there than any linear model. MovieLens-1M is what the learner was made for, and its defaults were chosen
    on it.

    Examples
    --------
    >>> from river import evaluate, metrics
    >>> clicks = [({"user": f"u{n % 3}", "item": f"i{n % 2}"}, n % 3 != n % 2) for n in range(300)]
    >>> model = ColdstreamClassifier()
    >>> evaluate.progressive_val_score(clicks, model, metrics.ROCAUC())
    ROCAUC: 98.63%
    >>> model.predict_one({"user": "u2", "item": "i0"}), model.predict_one({"user": "u1", "item": "i1"})
    (True, False)
    """

    def __init__(
        self,
        fields: tuple[FieldSettings, ...] | None = None,
        user: str = "user",
        item: str = "item",
        crosses: tuple[tuple[str, str], ...] | None = None,
        fast: FastSettings | None = None,
        seed: int = 7,
    ) -> None:
        self.fields = fields
        self.user = user
        self.item = item
        self.crosses = crosses
        self.fast = fast
        self.seed = seed
        book = FieldBook(fields, user=user, item=item)
        recipe = Recipe(
            fields=book.fields,
            fast=_FAST if fast is None else fast,
            crosses=tuple(CrossSettings(cross) for cross in crosses or ()),
            learner=LearnerSettings(seed=seed),
        )
        self._model = EstimatorModel(recipe, book)

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        """Learn from a sample.

        Raises:
            TypeError: a value that does not go with its field, or from whose type no kind of field follows.
            ValueError: a label that is neither true nor false; too many fields.
        """
        self._model.learn([x], _labels([y]))

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """Probabilities of False and True, with what has been learned so far.

        Raises:
            TypeError: a value that does not go with its field.
        """
        p = float(self._model.predict([x])[0])
        return {False: 1.0 - p, True: p}

    def learn_many(self, X: Any, y: Any) -> None:
        """Learn from the rows of a frame in order, as `learn_one` would.

        Args:
            X: a frame of pandas or polars (whatever narwhals knows); a missing value is a missing feature.
            y: a series of as many labels.

        Raises:
            TypeError, ValueError: as `learn_one`; nothing of the frame is learned then.
        """
        self._model.learn(_samples(X), _labels(into_series(y).to_list()))

    def predict_proba_many(self, X: Any) -> Any:
        """Probabilities, a frame of the same library with columns False and True (their names, where it has no others).

        Args:
            X: as for `learn_many`; its index is kept.
        """
        p_B = self._model.predict(_samples(X)).astype(np.float64)
        return to_native_frame({False: 1.0 - p_B, True: p_B}, like=into_frame(X))

    def predict_many(self, X: Any) -> Any:
        """Labels of the rows of a frame, a series of booleans."""
        return to_native_series(self._model.predict(_samples(X)) > 0.5, name=None, like=into_frame(X))

    @property
    def _raw_memory_usage(self) -> int:
        return self._model.num_bytes


def _samples(X: Any) -> list[dict[str, Any]]:
    frame = into_frame(X)
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.iter_rows()]


def _labels(labels: Iterable[Any]) -> list[bool]:
    taken = list(labels)
    for label in taken:
        if label not in _LABELS:
            raise ValueError(
                f"a label must be True or False, 1 or 0, got {label!r}: say which class is the positive one"
            )
    return [bool(label) for label in taken]
