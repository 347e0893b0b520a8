"""Experiments in one pass over a log: options, progress, report."""
