"""Compile, or load, everything before the first record comes."""

import time

import numpy as np

from stream.join.kernels import columns, deadlines, holding, ids, matching, samples, upkeep, writes
from stream.join.kernels.arrays import RECORD_DTYPE, USERS_TOUCHED, Records
from stream.join.memory.ids import texts_of
from stream.join.memory.partition import Partition
from stream.join.memory.plan import Plan, bytes_of


def warm_up(plan: Plan) -> float:
    """Call every compiled function that is called from Python, with nothing to do; returns the seconds it took.

    A third of a minute where nothing is cached, a second where an earlier process has left its code.
    """
    began = time.perf_counter()
    partition = Partition(plan)
    arrays, options = partition.arrays, plan.options
    cores = np.zeros(0, np.uint8)
    cores.flags.writeable = False
    records = Records(np.zeros(0, RECORD_DTYPE), np.zeros(0, RECORD_DTYPE), cores)
    matching.take_records(arrays, options, records, 0, 0.0, 0)
    matching.needs_of(options, Records(np.zeros(1, RECORD_DTYPE), records.waiting_W, cores), 0, 0)
    whole, numbers = np.zeros(0, np.int64), np.zeros(0)
    deadlines.pass_deadlines(arrays, options, whole, whole, numbers, numbers, numbers, whole, 0)
    to, place = np.zeros(1024, np.uint8), np.zeros(3, np.int64)
    columns.measure(arrays, options, 0, np.zeros(4, np.int64))
    columns.put_views(arrays, to, 0, True)
    columns.put_columns(arrays, options, 0, to, 0, 0, 0)
    writes.write_held(arrays, options, to, place)
    naming = writes.Naming(
        partition.users.arrays, bytes_of("u"), plan.fields[0], plan.field_at[0], plan.user_renewed, 1, 1
    )
    writes.write_entities(arrays, options, to, place, naming, naming)
    samples.count(arrays, 0, 0)
    some = partition.number_imps(texts_of(["i"]))
    partition.imps.find(partition.imps.texts(some))
    partition.forget_imps(some)
    ids.fill_slots(partition.imps.arrays)
    ids.pack_ids(partition.imps.arrays, to)
    ids.bytes_of_ids(partition.imps.arrays)
    partition.number_users(texts_of(["u"]))
    arrays = partition.arrays
    holding.mark(arrays, USERS_TOUCHED, arrays.users_U, 0, 0)
    upkeep.end_call(arrays, options, whole)
    upkeep.bytes_held(arrays, 0)
    upkeep.pack_bodies(arrays, 0, to)
    upkeep.pack_values(arrays, 0, np.zeros(1, arrays.values_V.dtype))
    upkeep.pack_histories(arrays, 0, 0, to)
    return time.perf_counter() - began
