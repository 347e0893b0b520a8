"""What `coldstream experiment ml-1m --retrieval [--stream]` does: two-tower retrieval (AdaF2M2, table 4)."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from rich.console import Console

from learner.retrieval.config import VARIANTS, TwoTowerSettings
from simulators.commands.experiments import opened_ratings, that_make
from simulators.commands.options import Parser, UsageError
from simulators.experiments.kept import Kept
from simulators.experiments.offline.search import device_of
from simulators.experiments.ratings import Ratings
from simulators.retrieval.report import split_report, stream_report
from simulators.retrieval.runs import RetrievalRun, SplitResult, StreamResult, finished, on_split, on_stream
from stream.command.options import usable_folder
from stream.command.output import print_json

_DESCRIPTION = """Two-tower retrieval on MovieLens-1M: recall@N, NDCG@N, AUC and UAUC on a random split, or, with
--stream, recall@N and NDCG@N as of each hour of event time. Every finished run is kept in --out and not done again."""


def _parser() -> Parser:
    parser = Parser(prog="coldstream experiment ml-1m --retrieval", description=_DESCRIPTION)
    parser.add_argument("--retrieval", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help="hour by hour, in one pass")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    parser.add_argument("--top", type=int, default=50, metavar="N", help="items that are found for each user")
    parser.add_argument("--epochs", type=int, default=20, help="at most, on a split")
    parser.add_argument("--patience", type=int, default=2, help="epochs without a better one, on a split")
    parser.add_argument("--micro-batch", type=int, default=256, help="samples per step, in the stream")
    parser.add_argument("--share", type=float, default=1.0, help="of the log's samples, for a quick try")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the model, as loss=bce or dim=64"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on a CPU")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="kept and found here; runs/retrieval[-stream]")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the log's files")
    parser.add_argument("--report", action="store_true", help="show what is there, and train nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line on stdout")
    return parser


def retrieval(arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Raises:
        UsageError: they make no sense.
    """
    options = _parser().parse_args(arguments)
    runs = _runs(options)
    if options.threads < 1:
        raise UsageError(f"--threads {options.threads}: expected 1 or more")
    torch.set_num_threads(options.threads)
    console, device = Console(stderr=True), device_of(options.device)
    out = usable_folder(options.out or Path("runs/retrieval-stream" if options.stream else "runs/retrieval"), "--out")
    ratings = opened_ratings(options.data, console)
    if options.report:
        runs = finished(Kept(out, StreamResult), runs) if options.stream else finished(Kept(out, SplitResult), runs)
        if not runs:
            raise UsageError(f"--report: none of these runs is in {out}")
    command = " ".join(["coldstream experiment ml-1m", *that_make(arguments)])
    with console.status("retrieval") as status:
        do = _stream if options.stream else _split
        results, text = do(ratings, runs, out, device, status.update, command)
    path = out / "retrieval.md"
    path.write_text(text + "\n", encoding="utf-8")
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written to {path}; paste it into learner/RESULTS.md")
    if options.json:
        print_json({"results": results, "report": str(path)})


Told = Callable[[str], None]


def _split(
    ratings: Ratings, runs: Sequence[RetrievalRun], out: Path, device: torch.device, told: Told, command: str
) -> tuple[Sequence[msgspec.Struct], str]:
    kept = Kept(out, SplitResult)
    results = list(on_split(ratings, runs, kept, device, told))
    return results, split_report(ratings, kept, results, command)


def _stream(
    ratings: Ratings, runs: Sequence[RetrievalRun], out: Path, device: torch.device, told: Told, command: str
) -> tuple[Sequence[msgspec.Struct], str]:
    results = list(on_stream(ratings, runs, Kept(out, StreamResult), device, told))
    return [msgspec.structs.replace(result, hours=[]) for result in results], stream_report(results, command)


def _runs(options: argparse.Namespace) -> list[RetrievalRun]:
    pairs = [each.partition("=") for each in options.set]
    for name, sign, _ in pairs:
        if not sign:
            raise UsageError(f"--set {name}: expected NAME=VALUE")
    given = {name: value.split(",") if name == "hidden" else value for name, _, value in pairs}
    # In a stream users come in sessions: a batch has few of them, and few negatives of its own.
    usual = {"num_uniform": 2048} if options.stream else {}
    common = {
        "settings": {**usual, **given},
        "num": options.top,
        **{name: getattr(options, name) for name in ("epochs", "patience", "micro_batch", "share")},
    }
    wanted = [{"variant": v, "seed": seed, **common} for v in dict.fromkeys(options.variants) for seed in options.seeds]
    try:
        return [msgspec.convert(run, RetrievalRun, strict=False) for run in wanted]
    except msgspec.ValidationError as exc:
        known = ", ".join(TwoTowerSettings.__struct_fields__)
        raise UsageError(f"experiment ml-1m --retrieval: {exc}; --set takes {known}") from exc
