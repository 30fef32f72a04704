"""Runs side by side: a table, a CSV and a plot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from autoenc.files import atomic, write_text

SHOWN = ("loss", "nll", "kl", "mse", "psnr", "denoise_psnr", "active_units", "zeros")
WIDTH = 160  # of the table where there is no terminal to ask


@dataclass(frozen=True)
class Row:
    """One job of a sweep: what was set for it, its test and latent numbers, and how it ended."""

    name: str
    state: str
    settings: dict[str, Any]
    numbers: dict[str, float] = field(default_factory=dict)
    error: str = ""


def read_run(run_dir: Path) -> Row:
    """What a job of a sweep says of itself; missing files mean that it did not get so far."""
    record = _json(run_dir / "run.json")
    summary = _json(run_dir / "summary.json")
    numbers = summary.get("test", {}) | summary.get("latent", {}) | summary.get("perf", {})
    return Row(
        name=run_dir.name,
        state=record.get("state", "not started"),
        settings=_overrides(run_dir),
        numbers={k: v for k, v in numbers.items() if v is not None},
        error=record.get("error", ""),
    )


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _overrides(run_dir: Path) -> dict[str, Any]:
    """What was set on the command line for this job: model=vae, model.latent_dim=8 ..."""
    path = run_dir / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(path.read_text()) if path.exists() else []
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def differing(rows: Sequence[Row]) -> list[str]:
    """The settings in which the jobs differ."""
    keys = dict.fromkeys(k for row in rows for k in row.settings)
    return [k for k in keys if len({str(row.settings.get(k)) for row in rows}) > 1]


def table(rows: Sequence[Row], keys: Sequence[str]) -> Table:
    """The runs with the settings that differ and the numbers that they have."""
    drawn = Table(title="comparison (test split)", title_justify="left")
    shown = [n for n in SHOWN if any(n in row.numbers for row in rows)]
    for name in ("run", *(k.removeprefix("model.") for k in keys)):
        drawn.add_column(name, overflow="fold")
    for name in shown:
        drawn.add_column(name, justify="right")
    drawn.add_column("state")
    for row in rows:
        numbers = [f"{row.numbers[n]:.5g}" if n in row.numbers else "" for n in shown]
        drawn.add_row(row.name.partition("_")[0], *(str(row.settings.get(k, "")) for k in keys), *numbers, row.state)
    return drawn


def csv_text(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """The same, every number, as CSV."""
    numbers = list(dict.fromkeys(n for row in rows for n in row.numbers))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *keys, *numbers, "state", "error"])
    for row in rows:
        values = [row.numbers.get(n, "") for n in numbers]
        writer.writerow([row.name, *(row.settings.get(k, "") for k in keys), *values, row.state, row.error])
    return out.getvalue()


def plot(rows: Sequence[Row], keys: Sequence[str], path: Path) -> bool:
    """Test numbers against the latent dimension, a line for each combination of the other settings.

    Where the latent dimension is the same in all runs: a bar for each run. False where no run has numbers.
    """
    from matplotlib.figure import Figure

    done = [row for row in rows if row.numbers]
    if not done:
        return False
    metrics = [m for m in ("mse", "kl", "active_units") if any(m in row.numbers for row in done)]
    others = [k for k in keys if k != "model.latent_dim"]
    lines: dict[str, list[Row]] = {}
    for row in done:
        lines.setdefault(", ".join(str(row.settings.get(k)) for k in others) or "all", []).append(row)
    colors = {label: f"C{i % 10}" for i, label in enumerate(lines)}  # the same in every panel
    figure = Figure(figsize=(4.6 * len(metrics), 4), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        have = [(label, row) for label, group in lines.items() for row in group if metric in row.numbers]
        if "model.latent_dim" in keys:
            for label, color in colors.items():
                points = sorted(
                    (r.settings["model.latent_dim"], r.numbers[metric]) for name, r in have if name == label
                )
                if points:
                    axes.plot(*zip(*points, strict=True), marker="o", label=label, color=color)
            axes.set_xscale("log", base=2)
            axes.set_xlabel("latent dimension")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            for label, row in have:
                axes.bar(list(colors).index(label), row.numbers[metric], label=label, color=colors[label])
            axes.set_xticks([])
        axes.set_title(f"test {metric}")
        axes.grid(alpha=0.3)
    panels[0].legend(title=", ".join(others) or None, fontsize=8)
    with atomic(path) as file:
        figure.savefig(file, format="png")
    return True


def report_sweep(sweep_dir: Path) -> list[str]:
    """The table on the screen, comparison.csv and comparison.png beside the runs; the names of the failed runs."""
    folders = [d for d in sweep_dir.iterdir() if (d.is_dir() and (d / ".hydra").exists()) or (d / "run.json").exists()]
    folders.sort(key=lambda d: int(n) if (n := d.name.partition("_")[0]).isdigit() else 0)
    rows = [read_run(d) for d in folders]
    keys = differing(rows)
    write_text(sweep_dir / "comparison.csv", csv_text(rows, keys))
    drawn = plot(rows, keys, sweep_dir / "comparison.png")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table(rows, keys))
    failed = [row for row in rows if row.state != "finished"]
    for row in failed:
        console.print(f"{row.name} {row.state}: {row.error}", soft_wrap=True, markup=False)
    names = "comparison.csv and comparison.png" if drawn else "comparison.csv"
    console.print(f"{len(rows) - len(failed)} of {len(rows)} runs finished; {names} in {sweep_dir}", soft_wrap=True)
    return [row.name for row in failed]
