"""From Kafka to weights: events, stages, Faust wiring, the worker and learner roles, the scorer."""
