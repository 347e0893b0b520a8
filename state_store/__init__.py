"""State in Redis: counts, norms, the label join, the outbox and the weights."""
