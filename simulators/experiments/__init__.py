"""Offline experiments: the tables of the paper on fixed splits of a log, with the statistics that judge them."""
