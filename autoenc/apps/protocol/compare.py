"""Runs side by side: a table, a CSV and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from autoenc.config.checks import suggest
from autoenc.errors import ConfigError, DataError
from autoenc.files import atomic, flat, write_text
from autoenc.metric_table import HEADLINE, headline
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import metric as metric_row
from autoenc.training.tracking import console

SHOWN = ("loss", "nll", "kl", "mse", "psnr", "perplexity", "denoise_psnr", "active_units", "zeros")
NO_MATTER = (  # to the result
    *("trainer.device", "trainer.threads", "trainer.figures", "trainer.eval_batch_size"),
    *("data.workers", "data.cache", "data.cache_folder"),
)
LATENT = "model.latent_dim"
FEW = 5  # lines whose legend fits into a panel
COLUMNS = 6  # of settings in the table: it has to fit on a screen


@dataclass(frozen=True)
class Row:
    """One run: what was set for it, its test, latent and performance numbers, and how it ended."""

    name: str
    state: str
    settings: dict[str, Any]
    numbers: dict[str, float] = field(default_factory=dict)
    error: str = ""


def read_run(run_dir: Path, whole: bool = False) -> Row:
    """What a run says of itself; missing files mean that it did not get so far.

    Args:
        whole: its settings are all of its config; otherwise what was set on the command line.
    """
    record, summary, evaluation = (_json(run_dir / f"{name}.json") for name in ("run", "summary", "evaluation"))
    numbers = {k: v for part in ("test", "latent", "perf") for k, v in summary.get(part, {}).items()}
    numbers |= {k: v for k, v in flat(evaluation).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return Row(
        name=run_dir.name,
        state=record.get("state", "not started"),
        settings=_settings(run_dir, record) if whole else _overrides(run_dir),
        numbers={k: v for k, v in numbers.items() if v is not None},
        error=record.get("error", ""),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise DataError(f"{path}: is no JSON: damaged") from None


def _overrides(run_dir: Path) -> dict[str, Any]:
    """What was set on the command line for this job: model=vae, model.latent_dim=8 ..."""
    path = run_dir / ".hydra" / "overrides.yaml"
    overrides = yaml.safe_load(path.read_text()) if path.exists() else []
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def _settings(run_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The chosen options, and every setting."""
    path = run_dir / "config.yaml"
    found = flat(yaml.safe_load(path.read_text())) if path.exists() else {}
    return {**record.get("choices", {}), **{k: v for k, v in found.items() if not k.endswith("_target_")}}


def runs_in(paths: Sequence[str | Path]) -> list[Path]:
    """The run directories among the paths and below them, each once.

    Raises:
        DataError: a path that does not exist, or that has no run in it.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"{path}: no such directory")
        below = [p.parent for p in sorted(path.glob("**/run.json"), key=_place)]
        if not below:
            raise DataError(f"{path}: has no run in it")
        found |= dict.fromkeys(below)
    return list(found)


def _place(path: Path) -> tuple[str, int, str]:
    """Jobs of a sweep by number, not 10 before 2."""
    number = path.parent.name.partition("_")[0]
    return str(path.parent.parent), int(number) if number.isdigit() else 0, str(path)


def read_runs(paths: Sequence[str | Path]) -> list[Row]:
    """The rows of any number of runs and folders of runs, under names that tell them apart."""
    folders = runs_in(paths)
    rows = [read_run(folder, whole=True) for folder in folders]
    names = [row.name for row in rows]
    return [
        row if names.count(row.name) == 1 else replace(row, name="/".join(folder.parts[-3:]))
        for row, folder in zip(rows, folders, strict=True)
    ]


def differing(rows: Sequence[Row], in_all: bool = False) -> list[str]:
    """The settings in which the runs differ.

    Args:
        in_all: only those that every run has: two models differ in their name, and not once more in every option
            that goes with it; and no settings of the machine.
    """
    keys = dict.fromkeys(k for row in rows for k in row.settings)
    if in_all:
        keys = dict.fromkeys(k for k in keys if all(k in row.settings for row in rows if row.settings))
    found = [k for k in keys if len({str(row.settings.get(k)) for row in rows}) > 1]
    if not in_all:
        return found
    groups = {k for k in found if "." not in k}
    return [
        k for k in found if k not in NO_MATTER and (k in groups or k == LATENT or k.partition(".")[0] not in groups)
    ]


def chief(rows: Sequence[Row]) -> str:
    """Return the metric that runs are sorted by by default: mse; perplexity for texts, which have no mse."""
    return headline(name for row in rows for name in row.numbers)


def ordered(rows: Sequence[Row], metric: str) -> list[Row]:
    """The rows by a number, the best first; runs without it last.

    Raises:
        ConfigError: no run has a number of that name.
    """
    known = sorted({n for row in rows for n in row.numbers})
    if metric not in known:
        raise ConfigError("--sort", metric, f"no run has this number; {suggest(metric, known)}")
    sign = metric_row(metric).sign
    return sorted(rows, key=lambda row: (metric not in row.numbers, sign * row.numbers.get(metric, 0.0)))


def table(rows: Sequence[Row], keys: Sequence[str], also: Sequence[str] = ()) -> Table:
    """The runs with the settings that differ and the numbers that they have."""
    drawn = Table(title="comparison (test split)", title_justify="left")
    shown = [n for n in dict.fromkeys((*also, *SHOWN)) if any(n in row.numbers for row in rows)]
    keys = sorted(keys, key=lambda k: k != LATENT and "." in k)[:COLUMNS]  # choices of groups first
    for name in ("run", *(k.removeprefix("model.") for k in keys)):
        drawn.add_column(name, overflow="fold")
    for name in shown:
        drawn.add_column(metric_label(name), justify="right", no_wrap=True)
    drawn.add_column("state", no_wrap=True)
    for row in rows:
        numbers = [f"{row.numbers[n]:.5g}" if n in row.numbers else "" for n in shown]
        number = row.name.partition("_")[0]
        name = number if number.isdigit() else row.name
        drawn.add_row(name, *(_short(row.settings.get(k, "")) for k in keys), *numbers, row.state)
    return drawn


def csv_text(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """The same, every number, as CSV."""
    import pandas as pd

    records = [
        {
            "run": row.name,
            **{k: row.settings.get(k) for k in keys},
            **row.numbers,
            "state": row.state,
            "error": row.error,
        }
        for row in rows
    ]
    numbers = list(dict.fromkeys(n for row in rows for n in row.numbers))
    frame = pd.DataFrame(records, columns=["run", *keys, *numbers, "state", "error"], dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


def plot(rows: Sequence[Row], keys: Sequence[str], path: Path, also: Sequence[str] = ()) -> bool:
    """Test numbers against the latent dimension, a line for each combination of the other settings.

    Where the latent dimension is the same in all runs: a bar for each run. Where two runs or more have a posterior,
    also rate and distortion: nats of KL against nats of nll (Alemi et al. 2018). False where no run has numbers.

    Args:
        also: numbers to draw beside mse (of texts, perplexity), KL and active units.
    """
    from matplotlib.figure import Figure

    done = [row for row in rows if row.numbers]
    if not done:
        return False
    names = dict.fromkeys((*also, *HEADLINE, "kl", "active_units"))
    metrics = [m for m in names if any(m in row.numbers for row in done)]
    lines = _lines(done, keys)
    variational = {
        label: [r for r in group if "kl" in r.numbers and "nll" in r.numbers] for label, group in lines.items()
    }
    with_rate = sum(map(len, variational.values())) > 1
    count = len(metrics) + with_rate
    figure = Figure(figsize=(4.6 * count, 4), dpi=110, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    colors = {label: f"C{i % 10}" for i, label in enumerate(lines)}  # the same in every panel
    for axes, metric in zip(panels, metrics, strict=False):
        for label, group in lines.items():
            have = [row for row in group if metric in row.numbers]
            if not have:
                continue
            if LATENT in keys:
                points = sorted((row.settings[LATENT], row.numbers[metric]) for row in have)
                axes.plot(*zip(*points, strict=True), marker="o", label=label, color=colors[label])
            else:
                place = list(lines).index(label)
                for i, row in enumerate(have):
                    width = 0.8 / len(have)
                    where = place - 0.4 + (i + 0.5) * width
                    axes.bar(
                        where, row.numbers[metric], width * 0.95, label=label if i == 0 else None, color=colors[label]
                    )
        if LATENT in keys:
            axes.set_xscale("log", base=2)
            axes.set_xlabel("latent dimension")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.set_xticks(range(len(lines)), [label[:24] for label in lines], rotation=20, ha="right", fontsize=7)
            axes.set_xlim(-0.6, len(lines) - 0.4)
        axes.set_title(f"test {metric_label(metric)}")
        axes.grid(alpha=0.3)
    if with_rate:
        axes = panels[-1]
        for label, group in variational.items():
            points = sorted((row.numbers["kl"], row.numbers["nll"]) for row in group)
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=label, color=colors[label])
        axes.set(title="rate and distortion", xlabel="KL [nats]", ylabel="nll [nats]")
        axes.grid(alpha=0.3)
    others = [k for k in keys if k != LATENT]
    title = ", ".join(others)[:60] or None
    if len(lines) <= FEW:
        panels[0].legend(title=title, fontsize=8)
    else:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, title=title, fontsize=8)
    with atomic(path) as file:
        figure.savefig(file, format="png")
    return True


def _lines(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, list[Row]]:
    """The runs by their settings beside the latent dimension."""
    others = [k for k in keys if k != LATENT]
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(", ".join(_short(row.settings.get(k, "-")) for k in others) or "all", []).append(row)
    return lines


def _short(value: Any) -> str:
    """A setting as it is shown: of a path, what it ends with."""
    text = str(value)
    return text.rstrip("/").rpartition("/")[2] if "/" in text else text


def report_sweep(sweep_dir: Path) -> list[str]:
    """The table on the screen, comparison.csv and comparison.png beside the runs; the names of the failed runs."""
    folders = [d for d in sweep_dir.iterdir() if (d.is_dir() and (d / ".hydra").exists()) or (d / "run.json").exists()]
    folders.sort(key=lambda d: int(n) if (n := d.name.partition("_")[0]).isdigit() else 0)
    rows = [read_run(d) for d in folders]
    keys = differing(rows)
    write_text(sweep_dir / "comparison.csv", csv_text(rows, keys))
    drawn = plot(rows, keys, sweep_dir / "comparison.png")
    screen = console()
    screen.print(table(rows, keys))
    failed = [row for row in rows if row.state != "finished"]
    for row in failed:
        screen.print(f"{row.name} {row.state}: {row.error}", soft_wrap=True, markup=False)
    names = "comparison.csv and comparison.png" if drawn else "comparison.csv"
    screen.print(f"{len(rows) - len(failed)} of {len(rows)} runs finished; {names} in {sweep_dir}", soft_wrap=True)
    return [row.name for row in failed]
