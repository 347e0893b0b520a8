"""Children of a process, as the kernel knows them; Linux only."""

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """Process ids of those that a process has started, and that have not ended."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text(encoding="ascii").split()]


def variable_of(pid: int, name: str) -> str | None:
    """An environment variable of another process, as it was started with; None if it has none."""
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key.decode() == name:
            return value.decode()
    return None
