"""What a run leaves: its folder, its summary, and what is said of it."""

import shutil
from pathlib import Path
from typing import Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from simulators.commands.options import UsageError
from stream.command.options import usable_folder
from stream.command.output import print_json


def run_folder(name: str) -> Path:
    """The folder of a run.

    Raises:
        UsageError: the name leads elsewhere.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(f"--name {name!r}: expected a plain folder name")
    return Path("runs") / name


def emptied(folder: Path) -> Path:
    """The folder, without an earlier run's results: the state that they belong to is gone with its servers."""
    shutil.rmtree(folder, ignore_errors=True)
    return usable_folder(folder, "run folder")


def show(summary: dict[str, Any], console: Console) -> None:
    """A summary, for people."""
    from simulators.runs.summary import cohort_rows

    table = Table(title="progressive validation, by the user's earlier impressions", box=SIMPLE, padding=(0, 1))
    for column in ("cohort", "samples", "AUC", "served", "rank UAUC", "log-loss", "calibr.", "item-mean AUC"):
        table.add_column(column, justify="left" if column == "cohort" else "right", no_wrap=column != "item-mean AUC")
    for name, row in cohort_rows(summary):
        figures = [row[k] for k in ("auc", "served_auc", "rank_uauc", "log_loss", "calibration", "baseline_auc")]
        table.add_row(name, f"{row['samples']:,}", *("-" if v is None else f"{v:.4f}" for v in figures))
    console.print(table)
    if len(summary["tasks"]) > 1:
        console.print(_of_tasks(summary["tasks"], summary["task"]))
    if "truth" in summary:
        truth = summary["truth"]
        console.print(_of_truth({"all": truth, **truth["cohorts"]}, "by the user's earlier impressions"))
        console.print(_of_truth(truth["item_shown_before"], "by how often the item had been shown"))
    console.print("samples: " + ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in summary["samples"].items()))
    verdict = "[green]equal[/]" if summary["counts_match"] else "[red]NOT equal[/]"
    console.print(f"every counter in Redis against an independent count of the log: {verdict}")
    fresh = summary.get("freshness_seconds")
    console.print(
        f"{summary['events_per_second']:,.0f} events/s"
        + (f" end to end; freshness p50 {fresh['p50']:.2f} s, p99 {fresh['p99']:.2f} s" if fresh else "")
        + f"; weights version {summary['weights_version']}"
    )


def _of_tasks(tasks: dict[str, dict[str, Any]], learned: str) -> Table:
    table = Table(
        title=f"how the score of {learned!r} ranks each task: AUC, UAUC, AUC by cohort", box=SIMPLE, padding=(0, 1)
    )
    cohorts = list(tasks[learned]["cohorts"])
    for column in ("task", "samples", "positive", "AUC", "UAUC", *cohorts):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for name, row in tasks.items():
        figures = [row["auc"], row["uauc"], *(row["cohorts"][cohort]["auc"] for cohort in cohorts)]
        share = "-" if row["base_rate"] is None else f"{row['base_rate']:.2%}"
        table.add_row(name, f"{row['samples']:,}", share, *("-" if v is None else f"{v:.3f}" for v in figures))
    return table


def _of_truth(groups: dict[str, dict[str, Any]], by: str) -> Table:
    table = Table(title=f"against the truth, {by}", box=SIMPLE, padding=(0, 1, 0, 0))
    columns = ("true_auc", "best_auc", "calibration", "error", "regret", "random_regret", "reach")
    for column in ("cohort", "samples", "AUC", "best AUC", "calibr.", "error", "regret", "random", "reach"):
        table.add_column(column, justify="left" if column == "cohort" else "right", no_wrap=True)
    for name, row in groups.items():
        figures = [row.get(column) for column in columns]
        table.add_row(name, f"{row['samples']:,}", *("-" if v is None else f"{v:.4f}" for v in figures))
    return table


def finish(summary: dict[str, Any], folder: Path, console: Console, *, as_json: bool) -> None:
    """Show a summary; exit status 1 if a counter is wrong."""
    show(summary, console)
    console.print(f"summary: {folder / 'summary.json'}; figures: `coldstream report {folder}`")
    if as_json:
        print_json(summary)
    if not summary["counts_match"]:
        raise typer.Exit(1)
