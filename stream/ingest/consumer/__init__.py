"""The consumer: how records come from Kafka through Faust, in batches, from the fence on."""
