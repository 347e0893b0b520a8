"""The label join in a worker's memory: what partitions hold is kept there, and written to Redis as it changes."""
