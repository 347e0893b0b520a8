"""Files as they lie there -> frames with the columns of `ROW_SCHEMA`."""
