"""Steps of the deep part's training in compiled code, with their gradients: on a CPU torch's small steps cost most."""
