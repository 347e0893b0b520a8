"""What several processes cannot do."""

from learner.recipe import Recipe


def refused(recipe: Recipe) -> str:
    """Why several processes cannot learn a recipe, and what to set; empty if they can."""
    if recipe.content_start.is_on:
        return (
            "[content_start] is on, and starts are made by one process that knows all items: set learner.processes = "
            "1, or leave the section out"
        )
    if recipe.has_deep and "sif" in {recipe.model.history, recipe.model.deep}:
        return (
            "model.history is 'sif', whose codebooks are moving averages of one process: set learner.processes = 1, or "
            "another model.history"
        )
    return ""
