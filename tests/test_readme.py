"""What README shows is of this version: its settings and mappings load, its imports are there."""

import re
import textwrap
from pathlib import Path

from simulators.logs.mapping import load_mapping
from stream.events import decode_event
from stream.settings import load_settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Its code of one language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def test_its_settings_and_its_mapping_are_taken(tmp_path: Path) -> None:
    mappings, settings = [], []
    for n, code in enumerate(blocks("toml")):
        file = tmp_path / f"{n}.toml"
        file.write_text(code)
        if "[log]" in code:
            mappings.append(load_mapping(file))
        else:
            settings.append(load_settings(file, {}))
    assert [mapping.name for mapping in mappings] == ["views"]
    assert [[task.name for task in given.labels] for given in settings] == [["click", "bought"]]


def test_its_events_are_events() -> None:
    lines = [line for code in blocks("json") for line in code.splitlines() if line.strip()]
    assert len([decode_event(line.encode()) for line in lines]) == len(lines) == 3


def test_its_imports_are_there() -> None:
    imports = [line for code in blocks("python") for line in code.splitlines() if re.match(r"(from|import) ", line)]
    assert len(imports) >= 4
    for line in imports:
        exec(line, {})  # our own README
