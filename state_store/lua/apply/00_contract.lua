-- Apply the records of a range of offsets of one topic partition, atomically: fence, as-of snapshot, counters, label join, outbox.
-- One script, of which the files of this folder are put together in the order of their names.
--
-- KEYS  1 fence  2 pending  3 waiting  4 due  5 outbox  6 dirty  7 dead  8 learned  9 bodies  10 labels  11 arrivals
-- ARGV  1 user key prefix  2 item key prefix  3 epoch  4 topic  5 first offset  6 last offset
--       7 records (msgpack), one behind the other, each filled up to 8 values by false  8 options (msgpack)
--       9 what is read to its end (msgpack): topics that were quiet for long, topics that are read as they are written
--       10 wall clock, ms (0: not known)
--       11 cores of the impressions, one behind the other
--       12 last offset that the caller knows to be applied (-1: none); an older fence means an older Redis
--       13 how many of the offsets were gone from the log before they were read
--       14 how many of the records do not belong in this partition
-- The range begins right behind the fence. What lies in it and is no record (transaction markers, aborted or compacted
-- records) is passed over. first > last is a tick: nothing is fenced, only deadlines are handled.
-- User and item keys are made here from the batch's ids; they share the hash tag of KEYS, hence the slot.
--
-- Record: {kind, offset, ts, ...}
--   1 impression {1, offset, ts, imp, user, item, size}      size: of its core in ARGV[11], which is copied into the
--                sample unread (this cmsgpack knows no binary strings, so it travels outside)
--   2 feedback   {2, offset, ts, imp, user, item, action, value} action: index into options.actions, from 1; value: or false
--   3 heartbeat  {3, offset, ts}
--   0 malformed  {0, offset, 0}                               already in the dead-letter topic; counted here
--   4 rerouted   {4, offset, 0}                               already written to the partition where it belongs
-- Core: '<I4I4I4B' tag of its layout, sizes of text and keys, how many actions; text, keys, fixed part. Samples leave as columns
--   (`learner/samples/layout.py`): their texts, one behind the other, then their keys, then a row of fixed length each:
--   kind, label, labels and known (a bit per task), task (which the sample is about, from 0), delay_ms, one value per
--   action; the core's fixed part; the state. Label and delay are those of the main task, or of the task it is about.
--   Where histories are declared, they stand before the rows, and each row ends with the number of entries of each.
-- Kinds: 0 negative, 1 positive, 2 correction, all of the main task; 3 of another; 4 shown, its label not known yet;
--   5 settled: nothing has come for a negative for `settle_ms`
-- Returns {outcome, offset in force, outbox sequence, trained sequence, more deadlines (0/1), stored epoch}

local NEGATIVE, POSITIVE, CORRECTION, TASK_CORRECTION, SHOWN, SETTLED = 0, 1, 2, 3, 4, 5
local WIDTH = 8 -- of a record
local HELD, EMITTED_NEGATIVE, EMITTED_POSITIVE, CORRECTED = 0, 1, 2, 3
local UNSAMPLED, DROPPED = 4, 5 -- held, but of no use as a negative; and its window has closed
local EMITTED_SETTLED = 6 -- a negative that has been settled

local call, pack, unpack_all, sub, concat = redis.call, cmsgpack.pack, unpack, string.sub, table.concat
local pack_bytes, unpack_bytes, floor = struct.pack, struct.unpack, math.floor
local fence, pending, waiting, due, outbox, dirty, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local user_prefix, item_prefix = ARGV[1], ARGV[2]
local epoch, topic, first, last = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local options = cmsgpack.unpack(ARGV[8])
local actions, topics, tasks, main = options.actions, options.topics, options.tasks, options.main
local num_actions, num_tasks = #actions, #tasks
local lateness = options.lateness_ms
-- Of the main task; of whichever task reaches farthest.
local window, attribution = tasks[main].window_ms, options.attribution_ms
local settle_after = options.settle_ms -- 0: negatives are believed at once

-- What follows is one function: names of it alone count towards the 200 that a function may have, and closures find those
-- above at once, where they would search through all that lie between.
local function apply()
