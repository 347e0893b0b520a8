"""AdaF2M2 as an incremental PyTorch learner; knows neither Kafka nor Redis."""
