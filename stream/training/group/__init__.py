"""The learner as several processes: which of them this is, and what keeps them together."""
