"""`coldstream experiment`: the tables of the paper, cold items as the field measures them, and streams."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import typer

from simulators.commands.options import Parser, UsageError

experiment = typer.Typer(
    help="Experiments on fixed splits of a log, and in one pass over it, with statistics.", no_args_is_help=True
)

_KINDS = {
    "--new-items": "starts.new_items",
    "--tasks": "one_pass.tasks",
    "--histories": "one_pass.histories",
    "--stream": "one_pass.stream",
}
"""Option -> module in `simulators.commands` whose `run` takes the log's name and the arguments."""
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_DESCRIPTION = """The paper's tables on MovieLens-1M (AdaF2M2, section 4), and cold items by the CVAR paper's split.
Every finished run is kept in --out and not done again: a command that was stopped goes on where it was, and several
may work on one folder, each on other models."""


def _parser() -> Parser:
    from simulators.experiments.offline.settings import MODELS, VARIANTS

    parser = Parser(prog="coldstream experiment ml-1m", description=_DESCRIPTION)
    parser.add_argument(
        "--table", type=int, choices=[3, 4], help="of the paper: 3, base models and with AdaF2M2; 4, two towers"
    )
    parser.add_argument("--stream", action="store_true", help="one pass in the order of time; see --stream --help")
    parser.add_argument("--histories", action="store_true", help="what a user did, in one pass; see --histories --help")
    parser.add_argument("--new-items", action="store_true", help="what new items start with; see --new-items --help")
    parser.add_argument("--cold-items", action="store_true", help="AUC of items with 0, 20, 40 and 60 ratings")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="MODEL")
    parser.add_argument("--variants", nargs="+", default=["base", "full"], choices=VARIANTS, metavar="VARIANT")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="the search is at the first"
    )
    parser.add_argument("--epochs", type=int, default=12, help="at most")
    parser.add_argument("--patience", type=int, default=2, help="epochs trained behind the best one")
    parser.add_argument("--lr", nargs="+", type=float, default=[0.003, 0.005], metavar="RATE", help="searched")
    parser.add_argument("--dim", nargs="+", type=int, default=[16, 32], metavar="D", help="searched")
    parser.add_argument("--decay", nargs="+", type=float, default=[0.0], metavar="RATE", help="searched")
    parser.add_argument("--batch", nargs="+", type=int, default=[1024], metavar="N", help="samples per step; searched")
    parser.add_argument(
        "--init", nargs="+", type=float, default=[0.01, 0.0001], metavar="STD", help="of new embeddings; searched"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of [model], as num_masks=2"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the log's samples, for a quick try")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on a CPU")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="kept and found here"
    )
    parser.add_argument("--report", action="store_true", help="show what is there, and train nothing")
    cold = parser.add_argument_group("with --cold-items")
    cold.add_argument(
        "--comparators",
        nargs="*",
        default=["deepfm"],
        choices=MODELS,
        metavar="MODEL",
        help="base models compared with",
    )
    cold.add_argument("--passes", nargs="+", type=int, default=[1], metavar="N", help="of them over the base")
    cold.add_argument("--rounds", nargs="+", type=int, default=[1], metavar="N", help="of them over each step")
    learned = ("ids", "everything")
    cold.add_argument("--learns", nargs="+", default=list(learned), choices=learned, help="what they learn in a step")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the log's files")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line on stdout")
    return parser


@experiment.callback()
def _group() -> None:
    """A group, whatever the number of its commands."""


@experiment.command("ml-1m", context_settings=_PASS_ON)
def ml_1m(context: typer.Context) -> None:
    """MovieLens-1M (--table 3 or 4, --cold-items, --new-items, --stream, --histories, ...; --help shows all)."""
    run(context.args)


@experiment.command("kuairand-pure", context_settings=_PASS_ON)
def kuairand_pure(context: typer.Context) -> None:
    """KuaiRand-Pure (--stream, --tasks, --histories, --new-items, --events, --only, --seeds, --out, --json, ...)."""
    if not _run_kind("kuairand-pure", context.args):
        _run("--stream", "kuairand-pure", context.args)


@experiment.command("domains", context_settings=_PASS_ON)
def domains(context: typer.Context) -> None:
    """IDP's protocol, from some domains to another (--target, --sources, --users, --losses; --help shows all)."""
    from simulators.commands.starts.domains import run as run_domains

    run_domains(context.args)


def run(arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Raises:
        UsageError: they make no sense.
    """
    others = _without_table_4(arguments)
    if others is not None or "--retrieval" in arguments:
        from simulators.commands.retrieval import retrieval

        retrieval(arguments if others is None else ["--retrieval", *others])
        return
    if _run_kind("ml-1m", arguments):
        return
    options = _parser().parse_args(arguments)
    if options.cold_items == (options.table is not None):
        raise UsageError("experiment ml-1m: say which, --table 3, --table 4, --cold-items, --stream or --histories")
    from simulators.commands.experiments import cold_items, table_3

    chosen = cold_items if options.cold_items else table_3
    chosen(options, " ".join(["coldstream experiment ml-1m", *arguments]))


def _run_kind(log: str, arguments: Sequence[str]) -> bool:
    """Run what an option asks for; returns whether one does."""
    kind = next((option for option in _KINDS if option in arguments), None)
    if kind is not None:
        _run(kind, log, arguments)
    return kind is not None


def _run(kind: str, log: str, arguments: Sequence[str]) -> None:
    # Each brings much with it, of which the others, and what only lists commands, have no use.
    importlib.import_module(f"simulators.commands.{_KINDS[kind]}").run(log, arguments)


def _without_table_4(arguments: Sequence[str]) -> list[str] | None:
    """The other arguments, where table 4 is asked for, which is about two towers."""
    rest = list(arguments)
    if "--table=4" in rest:
        rest.remove("--table=4")
        return rest
    at = rest.index("--table") if "--table" in rest else len(rest)
    return [*rest[:at], *rest[at + 2 :]] if rest[at + 1 : at + 2] == ["4"] else None
