"""A world like a log, as far as a log can say: tails, rates, delays, values, spreads, what attributes say.

Not in a log, and left as in the default world: trends, noise, how outcomes depend on taste, how long lists are, and
whether who is served well comes back. Tastes do not drift: shares and spreads are those of the whole log.
"""

import re

import msgspec
import numpy as np

from simulators.logs.log import Log
from simulators.world.fitting.measure import ActionSeen, EntitiesSeen, Seen, measure
from simulators.world.fitting.text import as_toml
from simulators.world.log import WorldLog
from simulators.world.parameters import Outcome, Parameters, Tail, WorldError
from simulators.world.tail import top_share

_ROUNDS = 5
_ROWS = 200_000
_BESIDE = 1_000_000
_STEP = 200
"""Impressions of a step, about: a slow world goes in longer ones."""
_AT_ONCE = 0.97
"""Feedback that comes with a label 1 this often is of clicks."""


class Fitted(msgspec.Struct, frozen=True):
    """A world, beside the log that it is like."""

    parameters: Parameters
    toml: str
    figures: dict[str, tuple[float | None, float | None]]
    """Name -> of the log, of the world."""


def fit_world(log: Log, num_rows: int = 0, seed: int = 7) -> Fitted:
    """Fit.

    Args:
        log: which.
        num_rows: the first so many rows of it; 0: all.
        seed: of the worlds that are tried.

    Raises:
        WorldError: what the log has is out of a world's bounds.
    """
    seen = measure(log, num_rows)
    try:
        begun = _begun(seen)
    except (msgspec.ValidationError, ValueError) as exc:
        raise WorldError(f"a world like {log.name!r} cannot be: {exc}") from exc
    parameters = _tried(begun, seen, seed)
    world = measure(WorldLog(parameters, seed, min(_BESIDE, seen.impressions)))
    figures = {name: (value, _figures(world).get(name)) for name, value in _figures(seen).items()}
    return Fitted(parameters, f"# A world like {log.name}.\n\n{as_toml(parameters)}", figures)


def _begun(seen: Seen) -> Parameters:
    """All but the rates."""
    default = Parameters()
    lists = default.lists
    main = max(seen.actions, key=lambda action: action.with_main * action.rate)
    outcomes = [_outcome(main, is_main=True), *(_outcome(a, is_main=False) for a in seen.actions if a is not main)]
    items = seen.items
    a_day = seen.impressions / seen.days
    given = msgspec.to_builtins(default) | {"outcomes": msgspec.to_builtins(_named_once(outcomes))}
    given["step_minutes"] = int(np.clip(1440 * _STEP / a_day, default.step_minutes, 1440))
    # A log that does not say where something stood has no bias to look for.
    given["lists"]["position_bias"] = default.lists.position_bias if seen.has_positions else 0.0
    given["returns"]["expected"] = seen.label_rate
    given["taste"]["drift"] = 0.0
    visits = a_day / seen.users.number / lists.size
    # At least half of the visits are no arrivals, or nobody would come twice.
    turnover = min(seen.users.new_per_day, visits / 2)
    given["users"] |= _of(seen.users, seen.interplay.user_share) | {
        "activity": {"sigma": _sigma(seen.users.share_of_top)},
        "turnover": min(turnover, 0.5),
        "visits_per_day": min(max(visits - turnover, 1e-4), 1000.0),
        "level": min(seen.users.spread, 10.0),
    }
    given["items"] |= _of(items, seen.interplay.item_share) | {
        "turnover": min(items.new_per_day, 0.5),
        "popularity": {"sigma": _sigma(items.share_of_top)},
        "quality": min(items.spread, 10.0),
        # The tail of a whole log has in it how items age.
        "lifetime_days": 36_500.0,
    }
    return msgspec.convert(given, Parameters)


def _of(seen: EntitiesSeen, share: float | None) -> dict[str, object]:
    names = {name: size for name, size in seen.attributes.items() if re.fullmatch("[a-z][a-z0-9_]{0,63}", name)}
    return {
        "number": seen.number,
        "attributes": names,
        **({} if share is None or not names else {"attribute_share": share}),
    }


def _outcome(seen: ActionSeen, *, is_main: bool) -> Outcome:
    """One kind of feedback as an outcome; its base is only a beginning."""
    defaults = Parameters().outcomes
    known = defaults[0] if is_main else {one.name: one for one in defaults}.get(seen.name, defaults[3])
    value = seen.value or 0.0
    return msgspec.structs.replace(
        known,
        name=_name(seen.name),
        of="clicked" if not is_main and seen.with_main >= _AT_ONCE else "shown",
        delay_s=max(seen.delay_s or 1.0, 0.001),
        delay_sigma=min(seen.value_sigma if value else seen.delay_sigma, 10.0),
        value=min(value, 1e6),
    )


def _name(action: str) -> str:
    name = re.sub("[^a-z0-9_]", "_", action.lower())
    return name if name[:1].isalpha() else f"a_{name}"


def _named_once(outcomes: list[Outcome]) -> list[Outcome]:
    return list({outcome.name: outcome for outcome in reversed(outcomes)}.values())[::-1][:8]


def _tried(parameters: Parameters, seen: Seen, seed: int) -> Parameters:
    """With rates, tails and spreads as they are to be: a world is tried, and set right, in turns."""
    for _ in range(_ROUNDS):
        got = measure(WorldLog(parameters, seed, min(_ROWS, seen.impressions)))
        users, items = parameters.users, parameters.items
        parameters = msgspec.structs.replace(
            parameters,
            outcomes=_with_rates(parameters, seen, got),
            users=msgspec.structs.replace(
                users,
                activity=_tail(users.activity, seen.users, got.users),
                level=_spread(users.level, seen.users, got.users),
            ),
            items=msgspec.structs.replace(
                items,
                popularity=_tail(items.popularity, seen.items, got.items),
                quality=_spread(items.quality, seen.items, got.items),
            ),
        )
    return parameters


def _with_rates(parameters: Parameters, seen: Seen, got: Seen) -> tuple[Outcome, ...]:
    wanted, outcomes = {_name(action.name): action.rate for action in seen.actions}, []
    for outcome, action in zip(parameters.outcomes, got.actions, strict=True):
        is_click = outcome.of == "clicked"
        goal = wanted[outcome.name] / (seen.label_rate if is_click else 1.0)
        rate = action.rate / (got.label_rate if is_click and got.label_rate else 1.0)
        base = outcome.base + _logit(goal) - _logit(rate)
        outcomes.append(msgspec.structs.replace(outcome, base=float(np.clip(base, -20, 20))))
    return tuple(outcomes)


def _logit(rate: float) -> float:
    p = min(max(rate, 1e-6), 0.999)
    return float(np.log(p / (1 - p)))


def _tail(tail: Tail, seen: EntitiesSeen, got: EntitiesSeen) -> Tail:
    sigma = tail.sigma + _sigma(seen.share_of_top) - _sigma(got.share_of_top)
    return Tail(float(np.clip(sigma, 0.0, 10.0)), tail.cap)


def _spread(spread: float, seen: EntitiesSeen, got: EntitiesSeen) -> float:
    return min(10.0, spread * min(2.0, seen.spread / max(got.spread, 1e-3)))


def _sigma(share: float, top: float = 0.05) -> float:
    """The spread of a tail whose greatest `top` have a share of the whole."""
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if top_share(Tail(middle), top) < share else (low, middle)
    return round(low, 4)


def _figures(seen: Seen) -> dict[str, float | None]:
    figures: dict[str, float | None] = {
        "impressions a day": seen.impressions / seen.days,
        "impressions of cold users": seen.cold_share,
    }
    for name, of in (("users", seen.users), ("items", seen.items)):
        figures |= {
            f"top 5 % of {name}": of.share_of_top,
            f"new {name} a day": of.new_per_day,
            f"spread of {name}": of.spread,
        }
    figures |= {
        "taste in users' attributes": seen.interplay.user_share,
        "taste in items' attributes": seen.interplay.item_share,
    }
    for action in seen.actions:
        figures |= {f"{action.name}: rate": action.rate, f"{action.name}: delay, s": action.delay_s}
    return figures
