"""Checkpoints: what has changed since the last one, in segments, and manifests that say which make up a checkpoint."""
