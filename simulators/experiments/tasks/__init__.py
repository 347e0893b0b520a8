"""Several tasks of one log, learned together or each by a model of its own, on the very same samples."""
