"""`coldstream experiment domains`: ids learned on source domains, given to another one's items (IDP)."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from rich.console import Console

from learner.content.config import ContentStartSettings
from learner.sequence.config import SasRecSettings
from learner.sequence.texts import HASHED, EncodedTexts, HashedTexts, Texts
from simulators.commands.experiments import add_kept, checked_seeds, that_make
from simulators.commands.options import Parser, UsageError
from simulators.experiments.domains.data import DOMAINS, read_domain
from simulators.experiments.domains.run import Domains, DomainsResult
from simulators.experiments.kept import Kept
from simulators.experiments.reporting.domains import report
from simulators.words.encoder import Encoder
from stream.command.options import usable_folder
from stream.command.output import print_json

_LOSSES = ("bpr", "bce", "softmax")
_DESCRIPTION = """IDP's own protocol (arXiv 2405.03562): SASRec on source domains, a matcher by text and behaviour, ids
for the items of another domain, which are used as they are, fine-tuned, or by a fresh encoder. Every finished run is
kept in --out and not done again."""


def parser_of() -> argparse.ArgumentParser:
    """Options of the experiment."""
    parser = Parser(prog="coldstream experiment domains", description=_DESCRIPTION)
    parser.add_argument("--target", required=True, choices=DOMAINS, metavar="DOMAIN", help=", ".join(DOMAINS))
    parser.add_argument("--sources", nargs="+", required=True, choices=DOMAINS, metavar="DOMAIN", help="one or more")
    parser.add_argument("--users", type=int, default=0, metavar="N", help="of each domain, at most; 0: all")
    parser.add_argument("--losses", nargs="+", default=["bpr", "bce"], choices=_LOSSES, metavar="LOSS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="of everything")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="of SASRec, as width=32")
    parser.add_argument(
        "--encoder",
        default=HASHED,
        metavar="NAME",
        help="of texts: hashed words, packaged (needs the extra `sentences`), or a folder of sentence-transformers",
    )
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    add_kept(parser, "runs/domains")
    return parser


def run(arguments: Sequence[str]) -> None:
    """Do what the arguments say.

    Raises:
        UsageError: they make no sense.
    """
    options = parser_of().parse_args(arguments)
    checked_seeds(options.seeds)
    if options.target in options.sources:
        raise UsageError(f"--sources {' '.join(options.sources)}: {options.target} is the target")
    if options.users < 0:
        raise UsageError(f"--users {options.users}: expected 0 or more")
    torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    experiment = _experiment(options, console)
    with console.status("learning") as status:
        if options.report:
            results = [found for found in _there(experiment, options) if found is not None]
        else:
            results = list(experiment.run(options.losses, options.seeds, status.update))
    if not results:
        raise UsageError(f"--report: nothing is in {options.out}")
    text = report(experiment, results, shlex.join(["coldstream", "experiment", "domains", *that_make(arguments)]))
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = experiment.kept.write(f"domains-{options.target}.md", text)
    console.print(f"written to {path}; paste it into learner/RESULTS.md", soft_wrap=True)
    if options.json:
        print_json(results)


def _there(experiment: Domains, options: argparse.Namespace) -> list[DomainsResult | None]:
    every = [(arm, loss, seed) for loss in options.losses for seed in options.seeds for arm in experiment.arms]
    return [experiment.find(*one) for one in every]


def _settings(pairs: Sequence[str]) -> SasRecSettings:
    try:
        return msgspec.convert(dict(pair.split("=", 1) for pair in pairs), SasRecSettings, strict=False)
    except ValueError as exc:
        raise UsageError(f"--set {' '.join(pairs)}: {exc}; expected NAME=VALUE") from exc


def _experiment(options: argparse.Namespace, console: Console) -> Domains:
    settings = _settings(options.set)
    kept = Kept(usable_folder(options.out, "--out"), DomainsResult)
    folder = options.data or Path("data")
    with console.status("reading"):
        target, *sources = (
            read_domain(name, folder, options.users, seed=0) for name in (options.target, *options.sources)
        )
    matcher = ContentStartSettings(method="learned", buckets=4096)
    return Domains(sources, target, settings, matcher, _texts(options.encoder, matcher), kept)


def _texts(encoder: str, matcher: ContentStartSettings) -> Texts:
    if encoder == HASHED:
        return HashedTexts(matcher.buckets)
    made = Encoder(encoder)
    return EncodedTexts(made.name, made.encode, made.width)
