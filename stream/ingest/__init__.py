"""Kafka -> one atomic call to the state store per batch: the worker role."""
