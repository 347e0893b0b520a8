"""Records in their plain form, as nearly all are, read by compiled code: a batch at once, without the interpreter's
lock. What is not plain (escapes, msgpack, other shapes) or not well is left to `stream.ingest.rows`, record by record;
so what is malformed, and what is said of it, is decided there alone."""
