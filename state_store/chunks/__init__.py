"""Snapshots in chunks named by their content: where they lie, what names them, what is removed."""
