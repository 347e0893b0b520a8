"""Several learners that are one: samples are shared out by user, what all users share is exchanged."""
