"""One pass over a log in the order of time: variants of the model, and rivals, on the very same samples."""
