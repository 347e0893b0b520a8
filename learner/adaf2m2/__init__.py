"""AdaF2M2 around any interaction model: feature mask, state-aware adapter, loss."""
