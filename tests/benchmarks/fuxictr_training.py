"""`fuxictr_training`: FuxiCTR's models in FuxiCTR's own training step, on the splits of table 3, beside ours.

How well: validation and test AUC by epoch, on the same split, fields, widths and dimensions, beside the runs of
`coldstream experiment ml-1m --table 3` that are in `--ours`. How fast (`--speed`): FuxiCTR's plain DCN-V2, in its own
loop with its own loader, and its steps alone, beside our DCN-V2 with adapter and masks, in steps of 256: our trainer
over epochs, and the stream's learner, which also looks up rows, predicts before it learns, and keeps norms; in turns,
in one process, on a machine that does nothing else.

FuxiCTR 2.3.10 is installed into an environment of its own, which shares our packages, and this file runs again in it.
The package on the index leaves EulerNet out: `--zoo` is the folder `model_zoo` of a checkout.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fuxictr_logits import NotToBeHadError, environment
from rich.console import Console
from rich.table import Table

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]


def parser() -> argparse.ArgumentParser:
    """Options."""
    found = argparse.ArgumentParser(prog="fuxictr_training", description=__doc__)
    found.add_argument("--models", nargs="+", default=["fm", "dnn", "deepfm", "dcnv2"], metavar="MODEL")
    found.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the split, and of initial values")
    found.add_argument("--batch", type=int, default=256, help="samples per step")
    found.add_argument("--lr", type=float, default=0.001)
    found.add_argument("--dim", type=int, default=16)
    found.add_argument("--epochs", type=int, default=12, help="at most; two behind the best one")
    found.add_argument("--share", type=float, default=1.0, help="of the log's samples, for a quick try")
    found.add_argument("--ours", type=Path, metavar="DIR", help="--out of the table 3 to compare with")
    found.add_argument("--speed", action="store_true", help="time steps, and train nothing")
    found.add_argument("--steps", type=int, default=40, help="of one turn")
    found.add_argument("--turns", type=int, default=15)
    found.add_argument("--zoo", type=Path, help="the folder model_zoo of a checkout of FuxiCTR")
    found.add_argument("--environment", type=Path, help="keep the environment here, or use the one that is")
    found.add_argument("--data", type=Path, help="folder with the log's files")
    found.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return found


def within(folder: Path, arguments: list[str]) -> int:
    """Run this file again where FuxiCTR is; returns its exit status."""
    with Console(stderr=True).status("installing FuxiCTR in an environment of its own"):
        python = environment(folder)
    paths = os.pathsep.join(map(str, (_ROOT, _ROOT / "tests", _HERE)))
    return subprocess.run(
        [str(python), str(_HERE / "fuxictr_training.py"), *arguments],
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    ).returncode


def shown(rows: list[dict[str, Any]], title: str, console: Console) -> None:
    """A table of what was found."""
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)


def main(arguments: list[str]) -> int:
    """Compare; returns an exit status."""
    options = parser().parse_args(arguments)
    if importlib.util.find_spec("fuxictr") is None:
        with tempfile.TemporaryDirectory() as made:
            return within(options.environment or Path(made) / "environment", arguments)
    # Only there can they be imported.
    from beside import fuxictr_speed, fuxictr_trained

    console = Console(stderr=True)
    if options.speed:
        rows = fuxictr_speed.timed(options)
        shown(rows, f"learning, batches of 256, medians of {options.turns} turns", console)
    else:
        rows = []
        for row in fuxictr_trained.trained(options, console):
            rows.append(row)
            console.print(f"{row['model']}, seed {row['seed']}: {row['epochs']}", highlight=False)
        told = [{key: value for key, value in row.items() if key != "epochs"} for row in rows]
        shown(told, "best epoch by validation", console)
    if options.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NotToBeHadError as error:
        sys.exit(str(error))
