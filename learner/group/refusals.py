"""What several processes cannot do."""

from learner.content.config import section_of, starts_of
from learner.recipe import Recipe


def refused(recipe: Recipe) -> str:
    """Why several processes cannot learn a recipe, and what to set; empty if they can."""
    for kind in starts_of(recipe):
        return (
            f"[{section_of(kind)}] is on, and starts are made by one process that knows all {kind}s: set "
            "learner.processes = 1, or leave the section out"
        )
    if recipe.has_deep and "sif" in {recipe.model.history, recipe.model.deep}:
        return (
            "model.history is 'sif', whose codebooks are moving averages of one process: set learner.processes = 1, or "
            "another model.history"
        )
    return ""
