"""Outbox -> predict, then learn -> weights: the learner role."""
