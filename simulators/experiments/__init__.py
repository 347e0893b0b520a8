"""Experiments: the tables of the paper on fixed splits of a log, and one pass over it, with statistics."""
