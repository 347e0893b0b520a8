"""ARCHITECTURE.md names files; every one of them must be there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:stream|learner|state_store|simulators|tests|docker)/[^`\s]*)`", text))
    assert len(named) > 30
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_no_folder_is_a_heap_and_no_module_is_long() -> None:
    """At most a dozen modules in a folder, at most 300 lines in a module."""
    for package in ("stream", "learner", "state_store", "simulators"):
        modules = [path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
        for folder in {path.parent for path in modules}:
            assert sum(path.parent == folder for path in modules) <= 12, folder
        assert [str(p) for p in modules if len(p.read_text(encoding="utf-8").splitlines()) > 300] == []


def _without_encoding(tree: ast.AST) -> list[int]:
    """Lines at which text is read or written in whatever encoding the locale has."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [a.value for a in (*node.args[:2], given.get("mode")) if isinstance(a, ast.Constant)]
        is_binary = any(isinstance(mode, str) and "b" in mode and len(mode) <= 3 for mode in modes)
        if isinstance(owner, ast.Name) and owner.id in ("os", "gzip", "zstd"):
            is_text = False  # os.open is no text; the others are binary unless told otherwise
        elif name in ("read_text", "write_text"):
            is_text = True
        elif name == "open" and owner is not None:
            # A path's, whose first argument is the mode.
            is_text = not is_binary and all(isinstance(argument, ast.Constant) for argument in node.args)
        elif name in ("open", "fdopen"):
            is_text = not is_binary
        else:
            is_text = name in ("run", "Popen", "check_output") and bool({"text", "universal_newlines"} & set(given))
        if is_text and "encoding" not in given:
            found.append(node.lineno)
    return found


def test_text_is_utf8_whatever_the_locale() -> None:
    wrong = "open(p)\np.open()\np.read_text()\np.write_text(x)\nrun(c, text=True)\n"
    right = "open(p, 'rb')\np.open('wb')\np.read_text(encoding='utf-8')\ngzip.open(p)\nrun(c, encoding='utf-8')\n"
    assert (_without_encoding(ast.parse(wrong)), _without_encoding(ast.parse(right))) == ([1, 2, 3, 4, 5], [])
    for package in ("stream", "learner", "state_store", "simulators"):
        for path in (ROOT / package).rglob("*.py"):
            assert _without_encoding(ast.parse(path.read_text(encoding="utf-8"))) == [], path


def test_what_the_page_is_sent_from_is_plain_ascii() -> None:
    """So that it is the same in every encoding that a locale may have."""
    for name in ("index.html", "page.js", "rollout.js", "abtest.js", "page.css"):
        assert (ROOT / "stream" / "monitor" / "page" / name).read_bytes().isascii(), name
