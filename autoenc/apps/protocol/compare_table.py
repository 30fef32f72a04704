"""The table of compared runs, and the report at the end of a sweep."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autoenc import page
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
from autoenc.apps.protocol.groups import MORE_SEEDS, Group, cautions, grouped, named_alike, verdicts, with_baselines
from autoenc.apps.protocol.statistics import half_width
from autoenc.errors import counted
from autoenc.files import write_text
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import legend
from autoenc.metric_table import metric as metric_row
from autoenc.screen import console
from autoenc.text import csv_text
from autoenc.training.tracking import varying

FILES = ("comparison.csv", "comparison.png", "comparison.html")
SHOWN = ("nll", "kl", "mse", "psnr", "perplexity", "denoise_psnr", "active_units", "zeros")
Column = tuple[str, list[str]]  # heading, cells
WIDEST, HEADING = 20, 13  # characters of a column of the table, and of a line of its heading


def print_comparison(compared: Comparison, screen: Console) -> None:
    """Print the groups of rows as tables as wide as the screen, then the remarks."""
    for table in tables(compared.columns, screen.width):
        screen.print(table)
    for line in compared.remarks:
        screen.print(line, soft_wrap=True, markup=False)


class Comparison:
    """What a comparison shows, on the screen and on its page.

    Args:
        rows: the runs.
        keys: the settings in which they differ.
        metric: the validation metric whose mean the groups of runs are ranked by.
        show: test metrics besides the usual ones.
        remedy: for groups of one run, in words.

    Attributes:
        columns: headings and cells of the table, a cell for each group of runs that differ only in their seeds.
        remarks: what marks, arrows and units mean; whether differences are more than chance; cautions; errors.
    """

    def __init__(
        self, rows: Sequence[Row], keys: Sequence[str], metric: str, show: Sequence[str], remedy: str = MORE_SEEDS
    ):
        self.rows, self.differing, self.metric, self.show, self.remedy = rows, keys, metric, show, remedy
        self.asked = list(dict.fromkeys((metric, *show)))
        groups, self.keys = grouped(named_alike(rows), keys)
        self.groups = ranked(groups, metric)
        usual = {name for row in rows for name in varying(row.numbers) if name in SHOWN}
        measured = {name for row in rows for name in row.numbers if name in self.asked}
        names = [name for name in dict.fromkeys((*self.asked, *SHOWN)) if name in usual | measured]
        self.shown = with_baselines(self.groups, names)
        self.columns, self.remarks = self._columns(), self._remarks()

    def _columns(self) -> list[Column]:
        groups, metric = self.groups, self.metric
        keys = sorted(self.keys, key=lambda k: k != LATENT and "." in k)  # options of config groups first
        columns = [("run", [run_label(group) for group in groups])]
        columns += [(k.removeprefix("model."), [short(g.settings.get(k, "-")) for g in groups]) for k in keys]
        if any(len(group.runs) > 1 for group in groups):
            columns.append(("seeds", [str(len(group.runs)) for group in groups]))
        if any(group.val for group in groups):
            values = [_value(g, metric, "val") if metric in g.val else "none" * bool(g.numbers) for g in groups]
            columns.append((f"val {metric_label(metric)}", values))
        for name in self.shown:
            marked = best(groups, name)
            cells = [_value(g, name) + "*" * (g is marked) if name in g.numbers else "" for g in groups]
            columns.append((metric_label(name), cells))
        if any(group.state != "finished" for group in groups):
            columns.append(("state", [group.state for group in groups]))
        return columns

    def summary(self) -> dict[str, Any]:
        """Return the runs with all metrics, their groups, and the remarks, as plain values."""
        groups: list[dict[str, Any]] = []
        for group in self.groups:
            settings = {key: group.settings.get(key) for key in self.keys}
            halves = {name: half_width(group.values(name)) for name in self.shown if group.values(name)}
            means = {"val": group.val, "test": group.numbers, "test_half_width": halves}
            groups.append({"runs": [row.name for row in group.runs], **settings, **means, "state": group.state})
        _, runs = records(self.rows, self.differing)
        return {"ranked_by": self.metric, "groups": groups, "runs": runs, "remarks": self.remarks}

    def _remarks(self) -> list[str]:
        rows, groups, metric = self.rows, self.groups, self.metric
        order = {True: "highest first", False: "lowest first", None: "lowest first; neither direction is better"}
        how = order[metric_row(metric).higher_is_better]
        ranked = any(row.numbers for row in rows)
        lines = [f"Ranked by validation {metric}, {how}; the other metrics are of the test split"] * ranked
        if any(best(groups, name) for name in self.shown):
            lines.append("* best by the validation value of the metric, not by the test value")
        if any(len(group.runs) > 1 for group in groups):
            lines.append("± half the width of the 95 % interval of the mean over runs that differ only in their seeds")
        if any(k not in row.settings for k in self.differing for row in rows):
            lines.append("- the run has no such setting")
        shown = [*self.shown, metric] if ranked else self.shown
        lines += legend(shown, *(group.numbers for group in groups), *(group.val for group in groups))
        if without := [run_label(row) for row in rows if row.numbers and metric not in row.val]:
            lines.append(f"no validation {metric}, therefore last and not ranked: {', '.join(without)}")
        lines += [
            f"{run_label(row)} {row.state}{f': {row.error}' if row.error else ''}"
            for row in rows
            if row.state != "finished"
        ]
        lines += verdicts(groups, self.keys, metric, [n for n in self.asked if n in self.shown])
        return lines + [f"Attention: {line}" for line in cautions(groups, self.keys, self.asked, self.remedy)]


def tables(columns: Sequence[Column], width: int) -> list[Table]:
    """Return the comparison as one table, or as several that repeat the names of the runs if the width is too small."""
    names, *others = columns
    blocks, used = [[names]], _width(names)
    for column in others:
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
            numeric = all(re.fullmatch(r"[-+\d.einfa*± ]*|none", cell) for cell in cells)
            table.add_column(
                _folded(heading), justify="right" if numeric else "left", overflow="fold", max_width=WIDEST
            )
        for line in zip(*(cells for _, cells in block), strict=True):
            table.add_row(*line)
        made.append(table)
    return made


def _value(group: Group, name: str, part: str = "numbers") -> str:
    """Return the mean of a metric over the runs of a group, with half the width of its interval."""
    mean = getattr(group, part)[name]
    half = half_width([getattr(row, part)[name] for row in group.runs if name in getattr(row, part)])
    if not half:
        text = f"{mean:.0f}" if float(mean).is_integer() else f"{mean:.5g}"
        return text if half is None else f"{text} ± 0"
    digits = 1 - math.floor(math.log10(half))  # two of the half width
    return f"{mean:.{digits}f} ± {half:.{digits}f}" if 0 <= digits < 7 else f"{mean:.5g} ± {half:.2g}"


def _width(column: Column) -> int:
    """Return the characters that a column takes, with its border."""
    return 3 + min(WIDEST, max(map(len, (*_folded(column[0]).split("\n"), *column[1]))))


def _folded(heading: str) -> str:
    """Return a heading over several lines, which break at dots and spaces."""
    lines = [""]
    for part in re.findall(r"[^. ]+(?: [↑↓])?[. ]?", heading):
        lines = [*lines[:-1], lines[-1] + part] if len(lines[-1] + part) <= HEADING else [*lines, part]
    return "\n".join(line.strip() for line in lines if line)


def records(rows: Sequence[Row], keys: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of comparison.csv and its rows; the names of validation metrics begin with `val.`."""
    found = [
        {"run": row.name}
        | {k: row.settings.get(k) for k in keys}
        | {f"val.{name}": value for name, value in row.val.items()}
        | row.numbers
        | {"state": row.state, "error": row.error}
        for row in rows
    ]
    val = dict.fromkeys(f"val.{name}" for row in rows for name in row.val)
    numbers = dict.fromkeys(name for row in rows for name in row.numbers)
    return ["run", *keys, *val, *numbers, "state", "error"], found


def metrics_csv(rows: Sequence[Row], keys: Sequence[str]) -> str:
    """Return all metrics as CSV."""
    header, found = records(rows, keys)
    return csv_text([header, *([record.get(name) for name in header] for record in found)])


def write(compared: Comparison, folder: Path, lines: Sequence[str] | None = None) -> list[Path]:
    """Write comparison.csv (each run), .png if a run has metrics, and .html; return what was written.

    Args:
        lines: the settings that tell the lines of the figure apart; None: all in which the runs differ.
    """
    table, figure, page_file = (folder / name for name in FILES)
    write_text(table, metrics_csv(compared.rows, compared.differing))
    apart = compared.differing if lines is None else lines
    drawn = plot(compared.rows, apart, figure, compared.metric, compared.show)
    write_text(page_file, page_text(compared, figure if drawn else None))
    return [table, figure, page_file] if drawn else [table, page_file]


def page_text(compared: Comparison, figure: Path | None) -> str:
    """Return the comparison as an HTML page: the table, the remarks, the figure, and the command of each run."""
    header, cells = zip(*compared.columns, strict=True)
    commands = [f"# {run_label(row)}\n{row.command}" for row in compared.rows if row.command]
    return page.document(
        f"Comparison of {counted(len(compared.rows), 'runs')}",
        [
            page.table(header, zip(*cells, strict=True)),
            page.lines(compared.remarks),
            *([page.picture(figure)] if figure else []),
            page.heading("Commands"),
            page.code("\n".join(commands)),
        ],
    )


def report_sweep(sweep_dir: Path) -> list[str]:
    """Print the comparison of a sweep and write its files beside the runs; return the names of the failed runs."""
    folders = [d for d in sweep_dir.iterdir() if (d.is_dir() and (d / ".hydra").exists()) or (d / "run.json").exists()]
    rows = [read_run(folder) for folder in sorted(folders, key=job)]
    metric, screen = chief(rows), console()
    rows = ranked(rows, metric)
    compared = Comparison(rows, differing(rows, swept=True), metric, ())
    written = write(compared, sweep_dir)
    print_comparison(compared, screen)
    failed = [row.name for row in rows if row.state != "finished"]
    if (first := best(compared.groups, metric)) is not None and (command := first.runs[0].command):
        mean = f", mean of {len(first.runs)} seeds, one of them" if len(first.runs) > 1 else ""
        screen.print(f"best by validation {metric}{mean}: {command}", soft_wrap=True, markup=False)
    names = " and ".join((", ".join(path.name for path in written[:-1]), written[-1].name))
    screen.print(
        f"{len(rows) - len(failed)} of {counted(len(rows), 'runs')} finished; {names} in {sweep_dir}", soft_wrap=True
    )
    return failed
