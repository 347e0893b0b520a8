"""Joined samples as columns: keys of values, the layout that worker and learner share, and what a block of them is."""
