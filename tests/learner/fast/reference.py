"""The fast part in plain PyTorch, in double precision, with gradients by autograd: slow, and easy to check by eye."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

SIDE = {"user": 0, "attributes": 1, "context": 1, "item": 2, "content": 3}
PRIOR = {"user": 6.0, "attributes": 200.0, "context": 10.0, "item": 5.0, "content": 20.0}
RATE = {"user": 0.2, "attributes": 0.06, "context": 0.06, "item": 0.1, "content": 0.1}
CROSS_PRIOR, SQUARE_PRIOR, CENTRE_RATE, BIAS_RATE, GATE_LR = 20.0, 0.2, 0.005, 0.05, 0.01
"""Settings of the model that is compared, none of them a default that may change."""
PLAIN, MAY_TURN, TURNED, SETTLED = 0, 1, 2, 3
LEVEL_RATE, LEVEL_PRIOR, LEVEL_MEMORY = 0.5, 20.0, 0.9999
POPULATION_RATE = 0.01
FARTHEST = 3.0


class Example(NamedTuple):
    """One sample."""

    values: list[tuple[int, int, float]]
    """(field, row, weight)."""
    crosses: list[tuple[int, int, float]]
    label: float
    weight: float
    shift: float
    turn: int
    """`PLAIN`, a negative that `MAY_TURN`, or one that has `TURNED` or is `SETTLED`."""
    belief: int
    """Where it is kept how far a negative is believed to turn; 0: nowhere."""
    learn: bool
    signals: list[float]
    deep: float
    levels: tuple[int, int]
    """Of user and item."""
    histories: list[tuple[int, int]]
    """(history, row of an item)."""
    covariance: int
    """Where the user's covariance is kept; 0: nowhere."""


class Said(NamedTuple):
    """What is said of a sample before it is learned."""

    components: Tensor
    gates: Tensor
    added: float
    inner: float
    logit: float
    rank: float


class Term(NamedTuple):
    """A part of what a sample's loss is."""

    factor: float
    square: float
    """How much of this part's squared gradient the sums of squares gain."""
    loss: Tensor


class Step(NamedTuple):
    """A loss' derivatives, and what sums of squares gain; None by what it does not depend on."""

    slopes: list[Tensor | None]
    squares: list[Tensor | None]


def probability_to_turn(logit: Tensor, share_late: float) -> float:
    """Bayes: the probability of a late positive, given that none has come in time."""
    p = float(torch.sigmoid(logit.detach()))
    late, never = p * share_late, 1 - p
    return late / (late + never)


def terms(logit: Tensor, example: Example, q: float, *, is_weighted: bool) -> list[Term]:
    """The loss: where a negative turns, or is settled, what is right less what was learned of it before.

    `q`: how far it is, or was, believed to turn.
    """
    shifted = logit + example.shift
    positive, negative = (binary_cross_entropy_with_logits(shifted, torch.tensor(label)) for label in (1.0, 0.0))
    if example.turn == PLAIN:
        weight = example.weight
        if is_weighted:
            # Ktena et al. 2019, equation 8, with p of the model itself, of which no gradient is taken.
            p = float(torch.sigmoid(shifted.detach()))
            weight = weight * (1 + p) * (1 if example.label else 1 - p)
        return [Term(weight, weight**2, positive if example.label else negative)]
    if example.turn == MAY_TURN:
        return [Term(q, q, positive), Term(1 - q, 1 - q, negative)]
    if example.turn == SETTLED:
        # negative - (q positive + (1 - q) negative)
        return [Term(q, 0, negative), Term(-q, 0, positive)]
    own = 1.0 if q == 0 else 0.0
    return [Term(1 - q, own, positive), Term(q - 1, -own, negative)]


def differentiate(parts: list[Term], by: list[Tensor]) -> Step:
    """Of all terms together."""
    slopes: list[Tensor | None] = [None] * len(by)
    squares: list[Tensor | None] = [None] * len(by)
    for factor, square, loss in parts:
        for n, g in enumerate(torch.autograd.grad(loss, by, retain_graph=True, allow_unused=True)):
            if g is not None:
                slopes[n] = factor * g + (0 if (before := slopes[n]) is None else before)
                squares[n] = square * g**2 + (0 if (before := squares[n]) is None else before)
    return Step(slopes, squares)


class Reference:
    """Sections 2 and 3 of the model, one sample at a time.

    Args:
        groups: of each field; those of context have no factors.
        v_RD: first factors.
        num_cross_rows, num_crosses: of crosses.
        gate: (W_in (H, S), b_in) of the first layer; the last one starts at 0. None for no gate.
        has_deep, has_norms: what is among the components and the gate's inputs.
        gate_batch: samples per step of the gate.
        num_levels: of users and of items, behind the gate; 0 for none.
        forget: share of its evidence that a first-order weight loses with each sample.
        is_weighted: whether samples weigh as in the fake-negative weighted loss.
        num_histories, history_rate: vectors of what users did, and what their items learn from them.
        variances: of users' first-order weights and of their factors at first; where a covariance of the population is
            learned at the rate `POPULATION_RATE`.
    """

    def __init__(
        self,
        groups: list[str],
        v_RD: Tensor,
        num_cross_rows: int,
        num_crosses: int,
        gate: tuple[Tensor, Tensor] | None,
        *,
        has_deep: bool,
        has_norms: bool,
        gate_batch: int,
        num_levels: int = 0,
        forget: float = 0.0,
        is_weighted: bool = False,
        num_histories: int = 0,
        history_rate: float = 0.0,
        variances: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.population = torch.diag(torch.tensor([variances[0], *[variances[1]] * v_RD.shape[1]]))
        self.covariances: dict[int, Tensor] = {}
        self.num_histories, self.history_rate = num_histories, history_rate
        self.groups, self.v, self.h = groups, v_RD.clone(), torch.zeros_like(v_RD)
        self.w, self.g = (torch.zeros(len(v_RD)) for _ in range(2))
        self.cross_w, self.cross_g = (torch.zeros(num_cross_rows) for _ in range(2))
        self.num_crosses, self.has_deep, self.has_norms = num_crosses, has_deep, has_norms
        self.bias, self.squared_errors = torch.zeros(()), 1.0
        self.centres = torch.zeros(2, v_RD.shape[1])
        self.levels, self.level_squares = (torch.zeros(2, num_levels) for _ in range(2))
        self.is_weighted, self.keep = is_weighted, 1 - forget
        self.beliefs: dict[int, tuple[float, float]] = {}
        """By the inner logit, and by the final one."""
        self.delays = [47.5, 2.5]
        """Positives in time, and late ones."""
        self.num_steps = 0
        self.num_seen, self.gate_batch, self.num_accumulated = 0, gate_batch, 0
        self.net: nn.Sequential | None = None
        if gate is not None:
            num_hidden, num_inputs = gate[0].shape
            num_outputs = 4 + num_crosses + 4 + 2 * num_histories + 1 + has_deep + 1
            self.net = nn.Sequential(nn.Linear(num_inputs, num_hidden), nn.ReLU(), nn.Linear(num_hidden, num_outputs))
            with torch.no_grad():
                self.net[0].weight.copy_(gate[0])
                self.net[0].bias.copy_(gate[1])
                self.net[2].weight.zero_()
                self.net[2].bias.zero_()
            self.mean, self.var = torch.zeros(num_inputs), torch.ones(num_inputs)
            self.adam = torch.optim.Adam(self.net.parameters(), lr=GATE_LR)

    def __call__(self, example: Example) -> Said:
        """Predict, then learn."""
        values = [value for value in example.values if value[1] != 0]
        crosses = [value for value in example.crosses if value[1] != 0]
        w = self.w[[row for _, row, _ in values]].requires_grad_()
        v = self.v[[row for _, row, _ in values]].requires_grad_()
        cross_w = self.cross_w[[row for _, row, _ in crosses]].requires_grad_()
        bias = self.bias.clone().requires_grad_()
        histories = [entry for entry in example.histories if entry[1] != 0]
        u = self.v[[row for _, row in histories]].requires_grad_()
        components, raw = self._components(values, crosses, w, v, cross_w, bias, example, histories, u)
        inner = components.sum()
        gates, added = torch.ones_like(components), torch.zeros(())
        if self.net is not None:
            output = self.net(self._inputs(example, raw))
            gates, added = 2 * torch.sigmoid(output[:-1]), output[-1]
        gated = (gates * components.detach()).sum() + added
        logit, rank = gated.detach(), gated - gates[0] * components[0].detach()
        levels = self._levels_of(example).requires_grad_()
        if len(levels):
            logit, rank, added = logit + levels.sum(), rank + levels[1], added + levels.sum()
        said = Said(components.detach(), gates.detach(), added.item(), inner.item(), logit.item(), rank.item())
        if example.learn:
            q_inner, q_final = self._believe(example, inner, logit)
            step = differentiate(terms(inner, example, q_inner, is_weighted=self.is_weighted), [w, v, cross_w, bias, u])
            user = next((n for n, value in enumerate(values) if value[0] == 0 and example.covariance), None)
            if user is not None:
                z_w, z_v = torch.autograd.grad(inner, [w, v], retain_graph=True, allow_unused=True)
                z = torch.cat([z_w[[user]], z_v[user] if z_v is not None else torch.zeros(v.shape[1])])
                self._learn_user(example, values[user][1], z, self._error(example, inner, q_inner), inner.detach())
            self._learn_values(values, step, user)
            self._learn_histories(histories, step)
            self._learn_crosses(crosses, step)
            self._learn_dense(raw if example.turn <= MAY_TURN else [None] * 4, step)
            if len(levels):
                final = terms(logit, example, q_final, is_weighted=self.is_weighted)
                self._learn_levels(example, logit, differentiate(final, [levels]))
            if self.net is not None:
                parts = terms(gated, example, q_final, is_weighted=self.is_weighted)
                self._learn_gate(torch.stack([term.factor * term.loss for term in parts]).sum())
        return said

    def _believe(self, example: Example, inner: Tensor, logit: Tensor) -> tuple[float, float]:
        """How far the negative is believed to turn, or was; counts delays."""
        q = (0.0, 0.0)
        if example.turn == MAY_TURN:
            share = self.delays[1] / sum(self.delays)
            q = probability_to_turn(inner, share), probability_to_turn(logit, share)
            self.beliefs[example.belief] = q
        elif example.turn != PLAIN:
            q = self.beliefs.pop(example.belief, q)
        if example.turn == TURNED:
            self.delays[1] += 1
        elif example.turn == PLAIN and example.label:
            self.delays[0] += 1
        return q

    def _levels_of(self, example: Example) -> Tensor:
        """The user's and the item's; none of a model without."""
        if not self.levels.shape[1]:
            return torch.zeros(0)
        return torch.stack([self.levels[which, level] for which, level in enumerate(example.levels)])

    def _components(
        self,
        values: list[tuple[int, int, float]],
        crosses: list[tuple[int, int, float]],
        w: Tensor,
        v: Tensor,
        cross_w: Tensor,
        bias: Tensor,
        example: Example,
        histories: list[tuple[int, int]],
        u: Tensor,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The components, and the four vectors before centring, None where nothing is known."""
        sums = [torch.zeros(()) for _ in range(4)]
        fields: list[dict[int, Tensor]] = [{} for _ in range(4)]
        for n, (field, _, x) in enumerate(values):
            side = SIDE[self.groups[field]]
            sums[side] = sums[side] + x * w[n]
            if self.groups[field] == "context":
                continue
            fields[side][field] = fields[side].get(field, torch.zeros(v.shape[1])) + x * v[n]
        raw: list[Tensor | None] = [torch.stack(list(own.values())).sum(0) if own else None for own in fields]
        if raw[1] is not None:
            raw[1] = raw[1] / len(fields[1])  # the mean of the attributes' vectors
        zero = torch.zeros(v.shape[1])
        ours = [zero if vector is None else vector for vector in raw[:2]]
        theirs = [
            zero if vector is None else vector - centre for vector, centre in zip(raw[2:], self.centres, strict=True)
        ]
        per_cross = [torch.zeros(()) for _ in range(self.num_crosses)]
        for n, (cross, _, x) in enumerate(crosses):
            per_cross[cross] = per_cross[cross] + x * cross_w[n]
        for history in range(self.num_histories):
            own = [u[n] for n, (of, _) in enumerate(histories) if of == history]
            ours.append(torch.stack(own).mean(0) - self.centres[0] if own else zero)
        products = [our @ their for our in ours for their in theirs]
        deep = [torch.tensor(example.deep)] if self.has_deep else []
        return torch.stack([*sums, *per_cross, *products, bias, *deep]), raw

    def _inputs(self, example: Example, raw: list[Tensor | None]) -> Tensor:
        """Signals, standardised by running mean and variance that count this sample."""
        signals = list(example.signals)
        if self.has_norms:
            for vector in (raw[0], raw[2]):
                square = 0.0 if vector is None else float(vector.detach() @ vector.detach())
                signals.append(math.log(math.sqrt(1e-6 + square)))
        x = torch.tensor(signals)
        share = 1 / min(self.num_seen + 1, 2000)
        distance = x - self.mean
        mean = self.mean + share * distance
        var = self.var + share * (distance**2 - self.var)
        if example.learn and example.turn <= MAY_TURN:
            self.mean, self.var, self.num_seen = mean, var, self.num_seen + 1
        return ((x - mean) / torch.sqrt(var + 1e-4)).clamp(-FARTHEST, FARTHEST)

    def _error(self, example: Example, inner: Tensor, q: float) -> float:
        """Minus the loss' derivative by the inner logit."""
        (slope,) = differentiate(terms(inner, example, q, is_weighted=self.is_weighted), [inner]).slopes
        assert slope is not None
        return -float(slope)

    def _learn_user(self, example: Example, row: int, z: Tensor, error: float, inner: Tensor) -> None:
        """A step of Newton's method on the loss and the prior's, which a Kalman filter's is, in its textbook form."""
        covariance = self.covariances.get(example.covariance, self.population.clone())
        evidence = 0.0
        if example.turn <= MAY_TURN:
            shifted = (inner + example.shift).requires_grad_()
            (curvature,) = torch.autograd.grad(torch.sigmoid(shifted), shifted)
            evidence = float(curvature) * (example.weight if example.turn == PLAIN else 1)
        if evidence:
            covariance = torch.linalg.inv(torch.linalg.inv(covariance) + evidence * torch.outer(z, z))
        kept = self.keep * covariance + (1 - self.keep) * self.population
        theta = torch.cat([self.w[[row]], self.v[row]]) + covariance @ z * error
        self.w[row], self.v[row] = theta[0], theta[1:]
        self.covariances[example.covariance] = kept if evidence else covariance
        if evidence:
            self.population += POPULATION_RATE * (torch.outer(theta, theta) + kept - self.population)

    def _learn_values(self, values: list[tuple[int, int, float]], step: Step, user: int | None) -> None:
        (slope_w, slope_v), (square_w, square_v) = step.slopes[:2], step.squares[:2]
        assert slope_w is not None
        assert square_w is not None
        for n, (field, row, _) in enumerate(values):
            group = self.groups[field]
            self.g[row] = (self.keep * self.g[row] + square_w[n]).clamp(min=0)
            if n == user:
                continue
            self.w[row] -= slope_w[n] / (PRIOR[group] + self.g[row])
            if slope_v is not None and square_v is not None:
                self.h[row] = (self.h[row] + square_v[n]).clamp(min=0)
                self.v[row] -= RATE[group] * slope_v[n] / torch.sqrt(SQUARE_PRIOR + self.h[row])

    def _learn_histories(self, histories: list[tuple[int, int]], step: Step) -> None:
        slopes, squares = step.slopes[4], step.squares[4]
        if not self.history_rate or slopes is None or squares is None:
            return
        for n, (_, row) in enumerate(histories):
            self.h[row] = (self.h[row] + squares[n]).clamp(min=0)
            self.v[row] -= self.history_rate * slopes[n] / torch.sqrt(SQUARE_PRIOR + self.h[row])

    def _learn_crosses(self, crosses: list[tuple[int, int, float]], step: Step) -> None:
        slopes, squares = step.slopes[2], step.squares[2]
        for n, (_, row, _) in enumerate(crosses):
            assert slopes is not None
            assert squares is not None
            self.cross_g[row] = (self.keep * self.cross_g[row] + squares[n]).clamp(min=0)
            self.cross_w[row] -= slopes[n] / (CROSS_PRIOR + self.cross_g[row])

    def _learn_dense(self, raw: list[Tensor | None], step: Step) -> None:
        for side, vector in enumerate(raw[2:]):
            if vector is not None:
                self.centres[side] += CENTRE_RATE * (vector.detach() - self.centres[side])
        slope, square = step.slopes[3], step.squares[3]
        assert slope is not None
        assert square is not None
        self.squared_errors = max(self.squared_errors + float(square), 1.0)
        self.bias = self.bias - BIAS_RATE * slope / math.sqrt(self.squared_errors)

    def _learn_levels(self, example: Example, logit: Tensor, step: Step) -> None:
        """By the final logit's error; the evidence is the loss' second derivative, once for each impression."""
        (slopes,) = step.slopes
        assert slopes is not None
        z = logit.detach().requires_grad_()
        (curvature,) = torch.autograd.grad(torch.sigmoid(z + example.shift), z)
        for which, level in enumerate(example.levels):
            evidence = LEVEL_MEMORY * self.level_squares[which, level]
            if example.turn <= MAY_TURN:
                evidence = evidence + curvature
            self.level_squares[which, level] = evidence
            self.levels[which, level] -= LEVEL_RATE * slopes[which] / (LEVEL_PRIOR + evidence)

    def _learn_gate(self, lost: Tensor) -> None:
        (lost / self.gate_batch).backward()  # type: ignore[no-untyped-call]
        self.num_accumulated += 1
        if self.num_accumulated == self.gate_batch:
            self.num_steps += 1
            # Four times the rate at first, twice after 200 steps.
            self.adam.param_groups[0]["lr"] = GATE_LR * (1 + 3 / (1 + self.num_steps / 100))
            self.adam.step()
            self.adam.zero_grad()
            self.num_accumulated = 0
