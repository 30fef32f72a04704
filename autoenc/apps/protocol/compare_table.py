"""The table of compared runs, and the report at the end of a sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autoenc import files
from autoenc.apps.protocol.compare import (
    LATENT,
    Row,
    best,
    chief,
    differing,
    job,
    ranked,
    read_run,
    run_label,
    short,
)  # fmt: skip
from autoenc.apps.protocol.compare_plot import plot
from autoenc.files import write_text
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import legend
from autoenc.metric_table import metric as metric_row
from autoenc.training.tracking import console

FILES = ("comparison.csv", "comparison.png")
SHOWN = ("nll", "kl", "mse", "psnr", "perplexity", "denoise_psnr", "active_units", "zeros")
WIDEST, HEADING = 20, 13  # characters of a column of the table, and of a line of its heading


def print_comparison(
    rows: Sequence[Row], keys: Sequence[str], metric: str, show: Sequence[str], screen: Console
) -> None:
    """Print the rows as tables as wide as the screen, then what marks, arrows and units mean, then errors."""
    shown = [n for n in dict.fromkeys((metric, *show, *SHOWN)) if any(n in row.numbers for row in rows)]
    for table in tables(rows, keys, metric, shown, screen.width):
        screen.print(table)
    order = {True: "highest first", False: "lowest first", None: "lowest first; neither direction is better"}
    how = order[metric_row(metric).higher_is_better]
    lines = [f"Ranked by validation {metric}, {how}; the other metrics are of the test split"]
    if any(best(rows, name) for name in shown):
        lines.append("* the run with the best validation value of the metric")
    if any(k not in row.settings for k in keys for row in rows):
        lines.append("- the run has no such setting")
    lines += legend([*shown, metric])
    if without := [run_label(row) for row in rows if row.numbers and metric not in row.val]:
        lines.append(f"no validation {metric}, therefore last and not ranked: {', '.join(without)}")
    lines += [
        f"{run_label(row)} {row.state}{f': {row.error}' if row.error else ''}"
        for row in rows
        if row.state != "finished"
    ]
    for line in lines:
        screen.print(line, soft_wrap=True, markup=False)


def tables(rows: Sequence[Row], keys: Sequence[str], metric: str, shown: Sequence[str], width: int) -> list[Table]:
    """Return the comparison as one table, or as several that repeat the names of the runs if the width is too small."""
    keys = sorted(keys, key=lambda k: k != LATENT and "." in k)  # options of config groups first
    columns = [(k.removeprefix("model."), [short(row.settings.get(k, "-")) for row in rows]) for k in keys]
    if any(row.val for row in rows):
        values = [f"{row.val[metric]:.5g}" if metric in row.val else "none" * bool(row.numbers) for row in rows]
        columns.append((f"val {metric_label(metric)}", values))
    for name in shown:
        marked = best(rows, name)
        cells = [f"{row.numbers[name]:.5g}{'*' * (row is marked)}" if name in row.numbers else "" for row in rows]
        columns.append((metric_label(name), cells))
    if any(row.state != "finished" for row in rows):
        columns.append(("state", [row.state for row in rows]))
    names = ("run", [run_label(row) for row in rows])
    blocks, used = [[names]], _width(names)
    for column in columns:
        if used + _width(column) >= width and len(blocks[-1]) > 1:
            blocks.append([names])
            used = _width(names)
        blocks[-1].append(column)
        used += _width(column)
    made = []
    for i, block in enumerate(blocks):
        table = Table(
            title=f"comparison{f' ({i + 1} of {len(blocks)})' if len(blocks) > 1 else ''}", title_justify="left"
        )
        for heading, cells in block:
            numeric = all(re.fullmatch(r"[-+\d.einfa*]*|none", cell) for cell in cells)
            table.add_column(
                _folded(heading), justify="right" if numeric else "left", overflow="fold", max_width=WIDEST
            )
        for line in zip(*(cells for _, cells in block), strict=True):
            table.add_row(*line)
        made.append(table)
    return made


def _width(column: tuple[str, list[str]]) -> int:
    """Return the characters that a column takes, with its border."""
    return 3 + min(WIDEST, max(map(len, (*_folded(column[0]).split("\n"), *column[1]))))


def _folded(heading: str) -> str:
    """Return a heading over several lines, which break at dots and spaces."""
    lines = [""]
    for part in re.findall(r"[^. ]+(?: [↑↓])?[. ]?", heading):
        lines = [*lines[:-1], lines[-1] + part] if len(lines[-1] + part) <= HEADING else [*lines, part]
    return "\n".join(line.strip() for line in lines if line)


def csv_text(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """Return all metrics as CSV; the names of validation metrics begin with `val.`."""
    records = [
        {"run": row.name}
        | {k: row.settings.get(k) for k in keys}
        | {f"val.{name}": value for name, value in row.val.items()}
        | row.numbers
        | {"state": row.state, "error": row.error}
        for row in rows
    ]
    val = dict.fromkeys(f"val.{name}" for row in rows for name in row.val)
    numbers = dict.fromkeys(name for row in rows for name in row.numbers)
    header = ["run", *keys, *val, *numbers, "state", "error"]
    return files.csv_text([header, *([record.get(name) for name in header] for record in records)])


def write(rows: Sequence[Row], keys: Sequence[str], folder: Path, also: Sequence[str] = ()) -> list[Path]:
    """Write comparison.csv and, if a run has metrics, comparison.png; return what was written."""
    table, figure = (folder / name for name in FILES)
    write_text(table, csv_text(rows, keys))
    return [table, figure] if plot(rows, keys, figure, also) else [table]


def report_sweep(sweep_dir: Path) -> list[str]:
    """Print the comparison of a sweep and write its files beside the runs; return the names of the failed runs."""
    folders = [d for d in sweep_dir.iterdir() if (d.is_dir() and (d / ".hydra").exists()) or (d / "run.json").exists()]
    rows = [read_run(folder) for folder in sorted(folders, key=job)]
    keys, metric, screen = differing(rows, swept=True), chief(rows), console()
    rows = ranked(rows, metric)
    written = write(rows, keys, sweep_dir)
    print_comparison(rows, keys, metric, (), screen)
    failed = [row.name for row in rows if row.state != "finished"]
    names = " and ".join(path.name for path in written)
    screen.print(f"{len(rows) - len(failed)} of {len(rows)} runs finished; {names} in {sweep_dir}", soft_wrap=True)
    return failed
