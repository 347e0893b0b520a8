"""How far a test of two pipelines is, as it leaves it in its run folder (`coldstream abtest`)."""

from pathlib import Path

PROGRESS = "abtest-progress.json"
_NOTHING = b"null"


def progress_of(folder: Path | None) -> bytes:
    """JSON of the test, `null` where there is none.

    Args:
        folder: the run folder, if it is within reach.
    """
    try:
        return (folder / PROGRESS).read_bytes() if folder is not None else _NOTHING
    except FileNotFoundError:
        return _NOTHING
