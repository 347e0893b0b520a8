"""The scorer over HTTP: routes, limits, the Open Inference Protocol, its document, its metrics."""
