"""`coldstream words`: a file of words' vectors, for content-made starts."""

from pathlib import Path
from typing import Annotated

import typer

from simulators.commands.options import UsageError


def words(
    out: Annotated[Path, typer.Argument(help="File to write; then content_start.words is its path.")],
    encoder: Annotated[
        str, typer.Option(help="packaged (needs the extra `sentences`), or a folder of sentence-transformers.")
    ] = "packaged",
    width: Annotated[int, typer.Option(min=1, max=4096, help="Dimensions that are kept.")] = 256,
    log: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="Also the values of a log's items.")] = "",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder with its files, where they are not found.")
    ] = None,
    add: Annotated[Path | None, typer.Option(metavar="FILE", help="Also words, or values, one a line.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Of PyTorch.")] = 1,
) -> None:
    """Write what a sentence encoder says of words: content_start.words compares items by it."""
    import torch
    from rich.console import Console

    from learner.content.words import write_words
    from simulators.logs.open import open_log
    from simulators.words.encoder import Encoder
    from simulators.words.making import merged, principal, values_of

    torch.set_num_threads(threads)
    console = Console(stderr=True)
    others = values_of(open_log(log, data).items) if log else []
    if add is not None:
        others += _lines(add)
    with console.status("reading the encoder"):
        made = Encoder(encoder)
    known, weights_V = merged(made.vocabulary(), others)
    with console.status(f"encoding {len(known):,} words"):
        vectors_VW, share = principal(made.encode(known), width)
    try:
        write_words(out, known, vectors_VW * weights_V[:, None], made.name)
    except OSError as exc:
        raise UsageError(f"{out}: {exc.strerror or exc}; give a path that can be written") from exc
    console.print(
        f"{out}: {len(known):,} words, {vectors_VW.shape[1]} dimensions with {share:.0%} of the variance of "
        f"{made.name}'s {made.width}; content_start.words={out}",
        soft_wrap=True,
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"--add {path}: {exc}; expected a text file in UTF-8") from exc
    return [line for line in lines if line]
