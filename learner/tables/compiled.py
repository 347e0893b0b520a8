"""`compiled`: numba's `njit` as this project uses it, with a cache that is never stale and never in the way.

numba keeps machine code on disk and knows it again by the source of the function's own module. A function into which
another module's code was compiled, or a constant of one, would go on with the old one when only that module changes; so
the folder carries a digest of all modules that what is compiled there may be made of. And a cache is a convenience: a
folder that cannot be written, a full disk or a damaged file cost the seconds of compiling, and nothing else.
"""

import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FAST_MATH = {"contract", "reassoc", "nsz"}
"""Sums may be taken in another order; but a value that is not finite stays one, so that divergence is seen."""
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FAST_MATH, "_nrt": False}
"""`_nrt`: references to arrays are not counted. numba counts each that is taken out of a tuple, by an atomic
instruction; of the step that learns from a sample this was two thirds. Whoever calls holds all arrays meanwhile."""
_IMPORT = re.compile(r"^\s*(?:from|import) +([\w.]+)(?: +import +(\([^)]*\)|[^\n]*))?", re.MULTILINE)
"""What a module imports, and what of it."""
_DAMAGED = (OSError, EOFError, pickle.UnpicklingError, ValueError, AttributeError, ImportError, IndexError, KeyError)
"""What reading a cut-off cache file raises, and writing to a full disk."""


def compiled(function: _Function) -> _Function:
    """Compile a function at its first call with given types, or load what an earlier process compiled.

    It runs without the interpreter's lock, divides by zero as NumPy does, and does not check indices. It works on
    arrays that it is given: one that makes some is refused when it is compiled.
    """
    return _compiled(function, _OPTIONS)


def compiled_maker(function: _Function) -> _Function:
    """As `compiled`, for a function that makes arrays."""
    return _compiled(function, _OPTIONS | {"_nrt": True})


def compiled_once(function: _Function) -> _Function:
    """As `compiled`, for short functions that others call with constants and with whole numbers of several widths.

    numba makes machine code anew for each constant and each width, which takes most of the time where small functions
    call each other; here all whole numbers are int64. The interpreter's lock is kept: they are called one behind the
    other, and whoever gives it away a dozen times waits for it as often.
    """
    dispatcher: Any = _compiled(function, _OPTIONS | {"nogil": False})
    template = dispatcher.get_call_template

    def of_widest(args: Iterable[Any], keywords: dict[str, Any]) -> Any:
        return template([_widest(of) for of in args], {name: _widest(of) for name, of in keywords.items()})

    dispatcher.get_call_template = of_widest
    return cast(_Function, dispatcher)


def _widest(of: Any) -> Any:
    of = numba.types.unliteral(of)
    return numba.types.int64 if isinstance(of, numba.types.Integer) else of


def _compiled(function: _Function, options: dict[str, Any]) -> _Function:
    folder = cache_folder(Path(function.__code__.co_filename).parent)
    if folder is None:
        return cast(_Function, numba.njit(**options)(function))
    with _numba_cache_at(folder):
        dispatcher = numba.njit(cache=True, **options)(function)
    _tolerate_damage(dispatcher)
    return cast(_Function, dispatcher)


def inlined(function: _Function) -> _Function:
    """Make a function part of the compiled ones that call it; called from Python, it is compiled each time.

    For what is done once per sample: passing a dozen arrays on costs as much as using them.
    """
    return cast(_Function, numba.njit(inline="always", **_OPTIONS)(function))


@cache
def cache_folder(used_in: Path = Path(__file__).parent) -> Path | None:
    """Where machine code is kept: below `NUMBA_CACHE_DIR` if that is set, else beside the package or in the home.

    None if nothing of this can be written.

    Args:
        used_in: folder of the modules whose functions are compiled.
    """
    package = Path(__file__).parents[1]
    chosen = numba.config.CACHE_DIR
    bases = [Path(chosen)] if chosen else [package / "__pycache__", Path("~/.cache/coldstream").expanduser()]
    return first_writable(base / f"compiled-{_digest(_sources(used_in))}" for base in bases)


def _sources(folder: Path) -> list[Path]:
    """The modules of a folder, and all that they import of their package and of this one, on and on."""
    found, waiting = set[Path](), list(folder.glob("*.py"))
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return sorted(found)


@cache
def _imported(path: Path) -> list[Path]:
    """The modules that one imports of its package and of this one; none of one that lies elsewhere."""
    root, found = Path(__file__).parents[2], list[Path]()
    if root not in path.parents:
        return found
    packages = {Path(__file__).parents[1].name, path.relative_to(root).parts[0]}
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        first, *rest = module.split(".")
        if first in packages:
            at = root.joinpath(first, *rest)
            candidates = (
                at.with_suffix(".py"),
                at / "__init__.py",
                *(at / f"{name}.py" for name in re.findall(r"\w+", names)),
            )
            found += filter(Path.is_file, candidates)
    return found


def first_writable(folders: Iterable[Path]) -> Path | None:
    """The first folder that can be made and written to."""
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


def _digest(sources: Iterable[Path]) -> str:
    digest = blake2b(digest_size=8)
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _numba_cache_at(folder: Path) -> Iterator[None]:
    """numba looks for the folder when a function is declared; other packages' functions keep theirs."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def _tolerate_damage(dispatcher: Any) -> None:
    """Compile when the cache cannot be read, go on when it cannot be written."""
    load, save = dispatcher._cache.load_overload, dispatcher._cache.save_overload

    def load_if_whole(*args: Any) -> Any:
        with suppress(*_DAMAGED):
            return load(*args)
        return None

    def save_if_possible(*args: Any) -> None:
        with suppress(*_DAMAGED):
            save(*args)

    dispatcher._cache.load_overload, dispatcher._cache.save_overload = load_if_whole, save_if_possible
