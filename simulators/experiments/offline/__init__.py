"""Models trained offline over epochs, on a fixed split: AdaF2M2 around any interaction model, and without it."""
