"""The two-tower model: it learns from pairs, and gives vectors that are searched by inner product.

Legend: B samples, C items of a batch, Q queries, I items, E length of vectors, K masked copies.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learner.comparators.ssl import SelfSupervision, random_masks
from learner.retrieval.config import TwoTowerSettings
from learner.retrieval.embeddings import Embeddings, Gathered
from learner.retrieval.entities import Entities
from learner.retrieval.interactions import Pairs
from learner.retrieval.loss import Candidates, ItemFrequency, binary, in_batch_softmax
from learner.retrieval.tower import Tower

_BLOCK = 4096
"""Vectors computed at a time."""


class TwoTower:
    """Two towers, their embeddings and optimisers.

    Loss: L_main on the weighed vectors, and alpha times the sum over k masked copies of both sides of the same loss
    (AdaF2M2, eq. 3 and 6); or, to compare with, the self-supervised loss on items (`learner/comparators/ssl.py`), on as
    many items as the batch has, drawn uniformly from all.

    Args:
        users: all users, with features of their own; those that were never learned from are cold.
        items: all items, likewise.
        settings: what it is and how it learns.
        device: where.

    The same seed and the same batches give the same model.
    """

    def __init__(
        self, users: Entities, items: Entities, settings: TwoTowerSettings, device: str | torch.device = "cpu"
    ) -> None:
        self.users, self.items, self.settings = users, items, settings
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(settings.seed)
        torch.manual_seed(settings.seed)
        self.user_tower = Tower(settings, len(users.fields)).to(self.device)
        self.item_tower = Tower(settings, len(items.fields)).to(self.device)
        self.ssl = (
            SelfSupervision(len(items.fields), settings.dim, temperature=settings.ssl_temperature).to(self.device)
            if settings.ssl_weight
            else None
        )
        self.bias = nn.Parameter(torch.zeros((), device=self.device))
        self.frequency = ItemFrequency(len(items))
        self._draws = torch.Generator().manual_seed(settings.seed + 1)
        self._user_embeddings, self._item_embeddings = (
            Embeddings(
                side.num_values,
                len(side.fields),
                settings.dim,
                std=settings.embedding_init,
                lr=settings.embedding_lr,
                generator=generator,
                device=self.device,
            )
            for side in (users, items)
        )
        parts = [part for part in (self.user_tower, self.item_tower, self.ssl) if part is not None]
        dense = [parameter for part in parts for parameter in part.parameters()]
        self._optimiser = torch.optim.Adam([*dense, self.bias], lr=settings.dense_lr)

    # Learning -----------------------------------------------------------------------------------------------------

    def learn(self, pairs: Pairs, item_counts_I2: np.ndarray) -> float:
        """One step; returns its loss, NaN where there was nothing to learn from.

        The softmax learns from positives alone, and from no fewer than two of them.

        Args:
            pairs: samples, each with the state just before it.
            item_counts_I2: impressions and positives of all items, for the negatives that are drawn.
        """
        is_softmax = self.settings.loss == "softmax"
        if is_softmax:
            pairs = pairs.take(pairs.labels_B > 0)
        if len(pairs.labels_B) < (2 if is_softmax else 1):
            return float("nan")
        self.user_tower.train()
        self.item_tower.train()
        users = self._user_embeddings.gather(self.users.bag(pairs.users_B), learning=True)
        numbers_C = pairs.items_B
        if is_softmax and self.settings.num_uniform:
            drawn = torch.randint(len(self.items), (self.settings.num_uniform,), generator=self._draws)
            numbers_C = np.concatenate([numbers_C, drawn.numpy()])
        items = self._item_embeddings.gather(self.items.bag(numbers_C), learning=True)
        self._optimiser.zero_grad()
        counts_C2 = np.concatenate([pairs.item_counts_B2, item_counts_I2[numbers_C[len(pairs.items_B) :]]])
        loss = self._total(pairs, users, items, numbers_C, counts_C2)
        shown = None
        if self.ssl is not None:
            shown, ssl = self._self_supervised(len(pairs.labels_B))
            loss = loss + self.settings.ssl_weight * ssl
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        for embeddings, gathered in ((self._user_embeddings, users), (self._item_embeddings, items)):
            embeddings.step(gathered)
        if shown is not None:
            self._item_embeddings.step(shown)
        return float(loss.detach())

    def _total(
        self, pairs: Pairs, users: Gathered, items: Gathered, numbers_C: np.ndarray, counts_C2: np.ndarray
    ) -> Tensor:
        settings = self.settings
        num_uniform = len(numbers_C) - len(pairs.items_B)
        users_B, items_C = (torch.from_numpy(each).to(self.device) for each in (pairs.users_B, numbers_C))
        labels_B = self._tensor(pairs.labels_B)
        log_q_C = torch.zeros(len(numbers_C), device=self.device)
        if settings.log_q and settings.loss == "softmax":
            log_q_C = self._tensor(self.frequency.log_expected(numbers_C, pairs.users_B, num_uniform))

        def loss(users_BE: Tensor, items_CE: Tensor) -> Tensor:
            if settings.loss == "bce":
                return binary(users_BE, items_CE, labels_B, self.bias, settings.temperature)
            return in_batch_softmax(users_BE, users_B, Candidates(items_CE, items_C, log_q_C), settings.temperature)

        total = loss(
            self.user_tower(users.emb_BFD, self._tensor(pairs.user_counts_B2)),
            self.item_tower(items.emb_BFD, self._tensor(counts_C2)),
        )
        users_KBE = self.user_tower.masked(users.emb_BFD, self._draws)
        items_KCE = self.item_tower.masked(items.emb_BFD, self._draws)
        for users_BE, items_CE in zip(users_KBE, items_KCE, strict=True):
            total = total + settings.aux_weight * loss(users_BE, items_CE)
        return total

    def _self_supervised(self, num: int) -> tuple[Gathered, Tensor]:
        assert self.ssl is not None
        # An item that comes twice would be its own negative.
        drawn_B = np.unique(torch.randint(len(self.items), (num,), generator=self._draws).numpy())
        gathered = self._item_embeddings.gather(self.items.bag(drawn_B), learning=True)
        masked_BF = random_masks(len(drawn_B), len(self.items.fields), self._draws).to(self.device)
        loss: Tensor = self.ssl(gathered.emb_BFD, masked_BF, self.item_tower.encode)
        return gathered, loss

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(self.device)

    # Vectors ------------------------------------------------------------------------------------------------------

    def user_vectors(self, users_Q: np.ndarray, counts_Q2: np.ndarray) -> np.ndarray:
        """Vectors of users by number, with what is counted of them; (Q, E), float32."""
        return self._vectors(self.user_tower, self.users, self._user_embeddings, users_Q, counts_Q2)

    def item_vectors(self, counts_I2: np.ndarray) -> np.ndarray:
        """Vectors of all items, (I, E), float32: they depend on no user, so they can be computed beforehand.

        Args:
            counts_I2: impressions and positives of each.
        """
        numbers_I = np.arange(len(self.items))
        return self._vectors(self.item_tower, self.items, self._item_embeddings, numbers_I, counts_I2)

    def _vectors(
        self, tower: Tower, entities: Entities, embeddings: Embeddings, numbers: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        tower.eval()
        vectors = np.empty((len(numbers), self.settings.out), np.float32)
        with torch.no_grad():
            for start in range(0, len(numbers), _BLOCK):
                part = slice(start, start + _BLOCK)
                gathered = embeddings.gather(entities.bag(numbers[part]), learning=False)
                vectors[part] = tower(gathered.emb_BFD, self._tensor(counts[part])).cpu().numpy()
        return vectors

    # Copies -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """A copy of what vectors follow from: towers, embeddings."""
        return {
            "user_tower": {name: value.clone() for name, value in self.user_tower.state_dict().items()},
            "item_tower": {name: value.clone() for name, value in self.item_tower.state_dict().items()},
            "users_VD": self._user_embeddings.table_VD.clone(),
            "items_VD": self._item_embeddings.table_VD.clone(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Give the vectors of `state()` again. Optimisers stay as they are."""
        self.user_tower.load_state_dict(state["user_tower"])
        self.item_tower.load_state_dict(state["item_tower"])
        self._user_embeddings.table_VD.copy_(state["users_VD"])
        self._item_embeddings.table_VD.copy_(state["items_VD"])
