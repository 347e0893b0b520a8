"""Mapped frames of several files -> one log by time: merged, without duplicates, feedback with its impression."""
