"""The learner for samples that are dictionaries: fields declared or inferred, counts kept here instead of in Redis."""
