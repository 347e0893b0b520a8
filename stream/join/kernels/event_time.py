"""Event time of a topic: what a majority of the users who came newest have reached.

As in `state_store/lua/apply/20_event_time.lua`.
"""

import math

from learner.tables.compiled import compiled_once
from stream.join.kernels.arrays import CLAIMS, MOVED, OLDEST_CLAIM, TOP, Arrays, Options


@compiled_once
def move_time(arrays: Arrays, ts: float, now: float) -> None:
    """A topic's event time is `ts` from now on."""
    arrays.times[TOP], arrays.times[MOVED] = ts, now


@compiled_once
def claim(arrays: Arrays, options: Options, user: int, ts: float, now: float) -> None:
    """A record of a user says that it is `ts`."""
    claims, sizes = arrays.claims, arrays.sizes
    n_agree, num_claims = options.time_users, 2 * options.time_users - 1
    at, known = 0, sizes[CLAIMS]
    while at < known and claims[at].user != user:
        at += 1
    if at == known and known >= num_claims:
        at = sizes[OLDEST_CLAIM]
        sizes[OLDEST_CLAIM] = (at + 1) % num_claims
    elif at == known:
        known += 1
        sizes[CLAIMS] = known
    claims[at].user, claims[at].ts = user, ts
    top = arrays.times[TOP]
    if math.isnan(top):
        top = -1.0
    if ts <= top:
        return
    agreed, lowest = 0, ts
    for n in range(known):
        claimed = claims[n].ts
        if claimed > top:
            agreed += 1
            lowest = min(lowest, claimed)
    if agreed == n_agree:
        move_time(arrays, lowest, now)
    elif agreed > n_agree:
        # The time that n of them have reached: as many lie behind it, or at it.
        reached = top
        for n in range(known):
            candidate, behind = claims[n].ts, 0
            for other in range(known):
                behind += claims[other].ts >= candidate
            if behind >= n_agree:
                reached = max(reached, candidate)
        move_time(arrays, reached, now)


@compiled_once
def in_time(arrays: Arrays, options: Options, user: int, ts: float, now: float) -> bool:
    """Whether a record is in time, or late by the order of its own topic."""
    if options.time_users > 1:
        claim(arrays, options, user, ts, now)
    else:
        top = arrays.times[TOP]
        if math.isnan(top):
            top = -1.0
        if ts > top:
            move_time(arrays, ts, now)
    top = arrays.times[TOP]
    return math.isnan(top) or ts >= top - options.lateness
