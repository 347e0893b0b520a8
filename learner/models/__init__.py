"""Interaction models g(.): field embeddings -> logit. AdaF2M2 wraps any of them."""
