"""Sources, matcher and every arm on one target, at every seed; what is there is not done again."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from learner.content.config import ContentStartSettings
from learner.sequence.config import SasRecSettings
from learner.sequence.matcher import Matcher, generated
from learner.sequence.sasrec import SasRec
from learner.sequence.texts import Texts
from simulators.experiments.domains.arms import ARMS, Arm
from simulators.experiments.domains.data import Domain, union
from simulators.experiments.domains.ranking import (
    TEST,
    VALIDATE,
    Ranks,
    Scores,
    asked,
    by_text,
    gains,
    popularity,
    ranks,
)
from simulators.experiments.domains.training import Trained, fit, scores_of, validated
from simulators.experiments.kept import Kept, KeptError
from stream.command.doctor import versions

Told = Callable[[str], None]
POPULAR, BY_TEXT = "popularity", "text of the history"
NEAREST = (1, 5, 10, 20)
"""m, of which the target's validation chooses."""
_ROUNDS = 100
_FEWEST_EVENTS = 5
"""Of a source item whose id others may be made of."""


class DomainsResult(msgspec.Struct, frozen=True):
    """One arm at one seed."""

    arm: str
    loss: str
    seed: int
    made: str
    """Domains and settings, as JSON."""
    full: dict[str, float]
    """Figures among all items."""
    drawn: dict[str, float]
    """Figures among a hundred drawn ones."""
    epochs: int
    nearest: int
    """m; 0 where no ids are made."""
    seconds: float
    date: str
    versions: dict[str, str]


class Source(NamedTuple):
    """What the sources have taught."""

    model: SasRec
    ids_JD: np.ndarray
    """Of items with enough events."""
    similar_IJ: Mapping[str, np.ndarray]
    """How like them the target's items are: by the map of text alone, and of behaviour."""


class Domains:
    """The experiment on one target.

    Args:
        sources: domains to learn from first.
        target: the other one.
        settings: of the model, but for its loss.
        matcher: of the map.
        texts: what texts are compared by.
        kept: where results are kept.
    """

    def __init__(
        self,
        sources: Sequence[Domain],
        target: Domain,
        settings: SasRecSettings,
        matcher: ContentStartSettings,
        texts: Texts,
        kept: Kept[DomainsResult],
    ) -> None:
        self.sources, self.target, self.kept = union(sources), target, kept
        self._settings, self._matcher, self._texts = settings, matcher, texts
        self._test = asked(target, TEST, 0)

    @property
    def arms(self) -> list[str]:
        """Names of all that is compared."""
        return [POPULAR, BY_TEXT, *(arm.name for arm in ARMS)]

    def made(self, loss: str) -> str:
        """What a result is made of, as JSON."""
        sizes = [[domain.name, len(domain.sequences), domain.num_items] for domain in (self.sources, self.target)]
        settings = msgspec.structs.replace(self._settings, loss=loss)
        return msgspec.json.encode([sizes, settings, self._matcher, self._texts.name]).decode()

    def find(self, arm: str, loss: str, seed: int) -> DomainsResult | None:
        """A result that is there.

        Raises:
            KeptError: it was made of something else.
        """
        found = self.kept.find(self._name(arm, loss, seed))
        if found is not None and found.made != self.made(loss):
            raise KeptError(
                f"{self.kept.path(self._name(arm, loss, seed))} was made of {found.made}, and asked is "
                f"{self.made(loss)}: give another --out"
            )
        return found

    def _name(self, arm: str, loss: str, seed: int) -> str:
        return f"{self.target.name}-{arm}-{loss}-{seed}".replace(" ", "_").replace(",", "")

    def ranks(self, arm: str, loss: str, seed: int) -> Ranks:
        """Of each user's last item, as a result has it."""
        name = self._name(arm, loss, seed)
        return Ranks(self.kept.array(name, "full"), self.kept.array(name, "drawn"))

    def run(self, losses: Sequence[str], seeds: Sequence[int], told: Told) -> Iterator[DomainsResult]:
        """Results, those that are there included.

        Args:
            losses: of the model.
            seeds: of everything.
            told: is told what is being done.
        """
        for loss in losses:
            settings = msgspec.structs.replace(self._settings, loss=loss)
            for seed in seeds:
                source: Source | None = None
                for name in self.arms:
                    found = self.find(name, loss, seed)
                    if found is None:
                        source = source or self._learn_sources(settings, seed, told)
                        found = self._one(name, source, settings, seed, told)
                    yield found

    def _learn_sources(self, settings: SasRecSettings, seed: int, told: Told) -> Source:
        torch.manual_seed(seed)
        model = SasRec(self.sources.num_items, settings)
        model = fit(model, self.sources, seed, told, to_test=False).model
        told("matcher")
        events_J = np.bincount(np.concatenate(self.sources.sequences), minlength=self.sources.num_items + 1)[1:]
        pool_J = np.flatnonzero(events_J >= _FEWEST_EVENTS)
        ids_JD = model.items.weight.detach().numpy()[1:][pool_J]
        texts_JH = self._texts.vectors([self.sources.words[j] for j in pool_J])
        texts_IH = self._texts.vectors(self.target.words)
        similar: dict[str, np.ndarray] = {}
        for name, weight in (("text", 0.0), ("behaviour", self._matcher.behaviour)):
            matcher = Matcher(msgspec.structs.replace(self._matcher, behaviour=weight), self._texts, seed)
            matcher.learn(texts_JH, ids_JD, _ROUNDS)
            similar[name] = matcher.compared(texts_IH) @ matcher.compared(texts_JH).T
        return Source(model, ids_JD, similar)

    def _one(self, name: str, source: Source, settings: SasRecSettings, seed: int, told: Told) -> DomainsResult:
        began, trained, nearest = time.monotonic(), None, 0
        arm = next((each for each in ARMS if each.name == name), None)
        if arm is None:
            scores = self._of_nothing_learned(name)
        else:
            torch.manual_seed(seed)
            model = SasRec(self.target.num_items, settings)
            nearest = self._begin(model, arm, source, seed)
            said = f"{arm.name}, {settings.loss}, seed {seed}: "
            if arm.learns:
                trained = fit(model, self.target, seed, lambda what: told(said + what))
            scores = scores_of(trained.model if trained is not None else model)
        found = ranks(scores, self._test)
        return self._keep(name, settings.loss, seed, found, trained, nearest, time.monotonic() - began)

    def _of_nothing_learned(self, name: str) -> Scores:
        if name == POPULAR:
            return popularity(self.target)
        matcher = Matcher(msgspec.structs.replace(self._matcher, behaviour=0.0), self._texts, 0)
        texts_IH = self._texts.vectors(self.target.words)
        # The map as it begins keeps cosines about as they are.
        matcher.learn(texts_IH, np.zeros((len(texts_IH), 1), np.float32), 0)
        return by_text(matcher.compared(texts_IH))

    def _begin(self, model: SasRec, arm: Arm, source: Source, seed: int) -> int:
        """Give a model what its arm begins with; returns m, which the target's validation chooses."""
        # What ids are worth the encoder says that they were learned with.
        asked_of = model if arm.encoder else SasRec(self.target.num_items, model.settings)
        taken = {name: value for name, value in source.model.state_dict().items() if not name.startswith("items.")}
        asked_of.load_state_dict(taken, strict=False)
        if arm.ids == "random":
            return 0
        what, best = asked(self.target, VALIDATE, seed), (-1.0, 0)
        for nearest in NEAREST:
            self._put(asked_of, source, arm.ids, nearest)
            best = max(best, (validated(asked_of, what), nearest))
        self._put(model, source, arm.ids, best[1])
        return best[1]

    def _put(self, model: SasRec, source: Source, how: str, nearest: int) -> None:
        made_ID = generated(source.similar_IJ[how], source.ids_JD, nearest)
        with torch.no_grad():
            model.items.weight[1:] = torch.from_numpy(made_ID)

    def _keep(
        self,
        name: str,
        loss: str,
        seed: int,
        found: Ranks,
        trained: Trained | None,
        nearest: int,
        seconds: float,
    ) -> DomainsResult:
        full, drawn = ({figure: float(values.mean()) for figure, values in gains(ranks_U).items()} for ranks_U in found)
        result = DomainsResult(
            arm=name,
            loss=loss,
            seed=seed,
            made=self.made(loss),
            full=full,
            drawn=drawn,
            epochs=trained.epochs if trained is not None else 0,
            nearest=nearest,
            seconds=seconds,
            date=datetime.now(UTC).date().isoformat(),
            versions=versions(),
        )
        self.kept.keep(self._name(name, loss, seed), result, {"full": found.full_U, "drawn": found.drawn_U})
        return result
