"""Whether a difference between two models is more than chance: DeLong's test, bootstrap over users."""
