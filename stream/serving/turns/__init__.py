"""Two models in turn: who reads which, and which is to be loaded next."""
