"""Several tasks: a fast part for each task besides the main one, and what each of them is told."""
