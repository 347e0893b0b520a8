"""`fuxictr_logits`: our interaction models beside FuxiCTR's, with the same weights, on the same inputs.

FuxiCTR 2.3.10 is installed into an environment of its own, which shares our torch. The package on the index leaves
these models out: with `--zoo`, the folder `model_zoo` of a checkout, they run as they are there; without it, those that
the package's layers make up. Embeddings are as large as after learning: normal, standard deviation .5.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from beside.fuxictr_forms import FORMS, Form, adjust, settings_of, tables
from rich.console import Console
from rich.table import Table

from learner.models.catalog import build_interaction
from state_store.errors import OperatorError
from stream.command.doctor import versions

_FUXICTR = "fuxictr==2.3.10"
_INSTALL_S = 900
_RUN_S = 300
_SAME = 1e-5


class NotToBeHadError(OperatorError):
    """FuxiCTR cannot be installed here, or does not run."""


def environment(folder: Path) -> Path:
    """An environment that has FuxiCTR, made by pip from whatever index is set up; returns its Python.

    Raises:
        NotToBeHadError: it cannot be installed.
    """
    python = folder / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        paths = json.loads(_said(python, "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"))
        # Behind its own packages: torch and numpy are ours, and need not be fetched.
        Path(paths["purelib"], "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        pip = [str(python), "-m", "pip", "install", "--quiet", _FUXICTR]
        subprocess.run(pip, check=True, capture_output=True, timeout=_INSTALL_S)
        _said(python, "import fuxictr.pytorch.layers")
    except (subprocess.SubprocessError, OSError) as exc:
        said = getattr(exc, "stderr", None) or b""
        last = (said.decode(errors="replace").strip().splitlines() or [str(exc)])[-1]
        raise NotToBeHadError(f"{_FUXICTR} cannot be installed ({last})") from exc
    return python


def _said(python: Path, code: str) -> bytes:
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, timeout=_RUN_S).stdout


def write(form: Form, folder: Path, options: argparse.Namespace) -> np.ndarray:
    """Draw a model's weights and inputs, write them as FuxiCTR has them; returns our logits, float32."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    model = build_interaction(settings_of(form, options.dim), options.fields).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        adjust(form, model.state_dict())
    shape = (options.fields, options.vocabulary)
    table_FVD = rng.normal(0, 0.5, (*shape, options.dim)).astype(np.float32)
    first_FV1 = rng.normal(0, 0.5, (*shape, 1)).astype(np.float32)
    ids_BF = rng.integers(0, options.vocabulary, (options.samples, options.fields))
    fields_F = np.arange(options.fields)
    with torch.no_grad():
        logits_B: np.ndarray = model(torch.from_numpy(table_FVD[fields_F, ids_BF])).numpy()
    values = form.to_fuxictr({key: value.numpy() for key, value in model.state_dict().items()})
    for prefix in form.tables:
        values |= tables(prefix, table_FVD)
    if form.first_order:
        assert model.needs_first_order
        logits_B = logits_B + first_FV1[fields_F, ids_BF, 0].sum(1)
        values |= tables("fm.lr_layer.embedding_layer", first_FV1)
    np.savez(folder / f"{form.name}.npz", ids=ids_BF, **values)
    return logits_B


def compare(python: Path, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What both say of each form.

    Raises:
        NotToBeHadError: FuxiCTR ended with an error.
    """
    ours = {form.name: write(form, folder, options) for form in FORMS}
    shared = {"num_fields": options.fields, "dim": options.dim, "vocabulary": options.vocabulary}
    cases = [
        {"name": form.name, "file": form.file, "options": form.options, "of_layers": form.of_layers, **shared}
        for form in FORMS
    ]
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    script = Path(__file__).parent / "beside" / "fuxictr_side.py"
    command = [str(python), str(script), str(folder), *([str(options.zoo.resolve())] if options.zoo else [])]
    done = subprocess.run(command, check=False, capture_output=True, timeout=_RUN_S)
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"])[-1]
        raise NotToBeHadError(f"FuxiCTR ended with status {done.returncode} ({last})")
    rows = []
    for form in FORMS:
        said, logits_B = folder / f"{form.name}.out.npy", ours[form.name]
        difference = float(np.abs(np.load(said) - logits_B).max()) if said.exists() else None
        rows.append({"model": form.name, "difference": difference, "std": float(logits_B.std()), "note": form.note})
    return rows


def main(arguments: list[str]) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(prog="fuxictr_logits", description=__doc__)
    parser.add_argument("--zoo", type=Path, help="the folder model_zoo of a checkout of FuxiCTR")
    parser.add_argument("--environment", type=Path, help="keep the environment here, or use the one that is")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--fields", type=int, default=6)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=50, help="values of each field")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as made:
        with console.status(f"installing {_FUXICTR}"):
            python = environment(options.environment or Path(made) / "environment")
        rows = compare(python, Path(made), options)
    kind = "models of its zoo" if options.zoo else "models made of its layers"
    printed = Table(title=f"largest difference of a logit to {_FUXICTR}, {kind}, {options.samples} samples")
    for column in ("model", "difference", "std of ours", f"same to {_SAME:g}", "what differs in form"):
        printed.add_column(column)
    for row in rows:
        is_there = row["difference"] is not None
        said = (f"{row['difference']:.1e}", "yes" if row["difference"] < _SAME else "NO") if is_there else ("-", "-")
        printed.add_row(row["model"], said[0], f"{row['std']:.2f}", said[1], row["note"] if is_there else "needs --zoo")
    console.print(printed)
    if options.json:
        print(msgspec.json.encode({"rows": rows, "zoo": options.zoo is not None, "versions": versions()}).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
