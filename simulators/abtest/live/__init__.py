"""Arms as they run in life: worker, learner and scorer in processes of their own, behind Kafka and HTTP."""
