"""Measure published and exact claims: `make reproduce`, `make reproduce ROWS=vae,iwae`, `make reproduce BUDGET=120`.

Each file in benchmarks/reproduce/ is a row: a claim, its source, and the commands that measure it, for several seeds.
Rows that are measured already are not measured again, and a row that was interrupted goes on with its next seed. The
measurements are kept in benchmarks/reproduce/measured.json; the table is printed and written to docs/results.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from autoenc.errors import counted

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "benchmarks" / "reproduce"
OUT = ROOT / "outputs" / "reproduce"
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- reproduce: begin -->", "<!-- reproduce: end -->"
KINDS = {  # start of a verdict: its kind
    "reproduced in": "reproduced in one seed",
    "reproduced": "reproduced",
    "within": "within tolerance",
    "on average": "not shown",
    "not": "not reproduced",
}
HEADER = ("figure", "claimed", "measured", "verdict")


class RowError(Exception):
    """A row that cannot be read or measured, in one line."""


@dataclass(frozen=True)
class Figure:
    """A number of a row: the mean over the seeds of a value in a JSON file, or of a difference of two.

    Args:
        read: "FILE KEY.KEY", a file below the folder of the seed. minus: the same, subtracted.
        times, plus: factor and summand of the value, for other units.
        claimed: what the source says. within: tolerance. better: lower or higher, if one direction is better.
        at_least, at_most, above, below: bounds, in place of a claimed number or beside it.

    A figure without any of these is only shown, such as a baseline.
    """

    name: str
    read: str
    minus: str | None = None
    times: float = 1.0
    plus: float = 0.0
    claimed: float | None = None
    within: float | None = None
    better: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def value(self, folder: Path) -> float:
        """Return the value of one seed."""
        value = _number(folder, self.read) - (0.0 if self.minus is None else _number(folder, self.minus))
        return self.times * value + self.plus

    @property
    def target(self) -> str:
        """The claim in a few characters."""
        signs = {">=": self.at_least, "<=": self.at_most, ">": self.above, "<": self.below}
        parts = [] if self.claimed is None else [f"{self.claimed:g}"]
        return ", ".join(parts + [f"{sign} {bound:g}" for sign, bound in signs.items() if bound is not None])

    def verdict(self, values: list[float]) -> str:
        """Return reproduced, within x, or not reproduced; empty for a figure that claims nothing.

        A claimed number is reproduced if the mean is better, or nearer than two standard errors and the tolerance, if
        there is one: a spread does not excuse a miss. "within x": nearer than the tolerance. A bound is reproduced if
        Student's one-sided 95 % interval of the mean keeps it, and kept on average only if the mean does. Of one seed,
        which has no spread, it is said.
        """
        mean, error = statistics.fmean(values), standard_error(values)
        margins = [mean - b for b in (self.at_least, self.above) if b is not None]
        margins += [b - mean for b in (self.at_most, self.below) if b is not None]
        strict = self.above is not None or self.below is not None
        if any(not math.isfinite(v) for v in values) or any(m < 0 or (strict and m == 0) for m in margins):
            return "not reproduced"
        if self.claimed is not None:
            off = mean - self.claimed
            ahead = (self.better == "lower" and off <= 0) or (self.better == "higher" and off >= 0)
            near = self.within is not None and abs(off) <= self.within
            if not (ahead or (abs(off) <= 2 * error and (near or self.within is None))):
                return f"within {abs(off):.2g}" if near else f"not reproduced, off by {off:+.3g}"
        elif not margins:
            return ""
        if len(values) == 1:
            return "reproduced in one seed"
        if margins and min(margins) < quantile(len(values)) * error:
            return "on average only, the 95 % interval is wider"
        return "reproduced"


@dataclass(frozen=True)
class Row:
    """A claim and how it is measured; the file's name is the row's.

    Args:
        minutes: of one seed, on two cores or on a GPU.
        commands: run in order from the root of the repository; {seed}, and {out}, an empty folder for each seed.
        gpu: whether it is measured only where there is a GPU. tested: whether the tests measure it too.
        why: the reason, if it is not reproduced; otherwise how it differs from the source.
    """

    name: str
    claim: str
    source: str
    minutes: float
    commands: list[str]
    figures: list[Figure]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    gpu: bool = False
    tested: bool = False
    why: str = ""

    @property
    def key(self) -> str:
        """A digest of the commands; a row with other commands is measured anew."""
        return hashlib.sha256(json.dumps(self.commands).encode()).hexdigest()[:12]

    def measure(self, seed: int, out: Path) -> dict[str, Any]:
        """Run the commands of one seed and return its values and minutes.

        Raises:
            RowError: a command failed, or a figure is not in its files.
        """
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        started = time.perf_counter()
        with (out / "commands.log").open("w") as log:
            for command in self.commands:
                line = command.format(seed=seed, out=out)
                log.write(f"$ {line}\n")
                log.flush()
                words = [sys.executable if word == "python" else word for word in shlex.split(line)]
                done = subprocess.run(words, cwd=ROOT, stdout=log, stderr=log, check=False)
                if done.returncode:
                    said = (out / "commands.log").read_text().splitlines()[-1]
                    raise RowError(f"{self.name}, seed {seed}: exit code {done.returncode}: {said}; {out}/commands.log")
        minutes = (time.perf_counter() - started) / 60
        return {"values": {f.name: f.value(out) for f in self.figures}, "minutes": minutes}


def standard_error(values: list[float]) -> float:
    """Return the standard error of the mean; 0 for one value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def quantile(seeds: int) -> float:
    """Return the 95 % quantile of Student's distribution of the mean of so many seeds, in standard errors."""
    from scipy.stats import t

    return float(t.ppf(0.95, seeds - 1))


def load_row(path: Path) -> Row:
    """Return the row of a YAML file; RowError for a key that is missing or unknown."""
    try:
        node = yaml.safe_load(path.read_text())
        figures = [Figure(**entry) for entry in node.pop("figures")]
        row = Row(name=path.stem, figures=figures, **node)
    except (TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise RowError(f"{path.name}: {text}") from None
    if not (row.commands and row.figures and row.seeds and row.source and row.minutes > 0):
        raise RowError(f"{path.name}: needs a source, minutes above 0, and at least one command, figure and seed")
    names = [figure.name for figure in row.figures]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RowError(f"{path.name}: two figures are named {twice[0]!r}, under which values are kept")
    for figure in row.figures:
        if figure.within is not None and figure.claimed is None:
            raise RowError(f"{path.name}: {figure.name}: within needs a claimed number")
        if figure.better not in (None, "lower", "higher"):
            raise RowError(f"{path.name}: {figure.name}: better must be lower or higher")
    if not any(figure.target for figure in row.figures):
        raise RowError(f"{path.name}: no figure claims anything: claimed, at_least, at_most, above or below")
    return row


def load_rows(folder: Path = ROWS) -> dict[str, Row]:
    """Return all rows by name, the short ones first."""
    rows = [load_row(path) for path in sorted(folder.glob("*.yaml"))]
    return {row.name: row for row in sorted(rows, key=lambda row: (row.gpu, row.minutes * len(row.seeds)))}


def _number(folder: Path, place: str) -> float:
    """Return a number in a JSON file, "FILE KEY.KEY"; keys may contain dots themselves."""
    name, _, keys = place.partition(" ")
    try:
        return float(_descend(json.loads((folder / name).read_text()), keys.strip()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RowError(f"{place}: not found ({type(error).__name__}: {error})") from None


def _descend(node: Any, keys: str) -> Any:
    if isinstance(node, list):
        first, _, rest = keys.partition(".")
        return _descend(node[int(first)], rest) if rest else node[int(first)]
    if keys in node:
        return node[keys]
    for key in sorted(node, key=len, reverse=True):
        if keys.startswith(f"{key}."):
            return _descend(node[key], keys[len(key) + 1 :])
    raise LookupError(keys)


class Measurements:
    """The measured values of all rows, kept in a JSON file."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._lock = threading.Lock()

    def of(self, row: Row) -> dict[str, Any]:
        """Return seed -> values and minutes, of the present commands and figures."""
        found = self.rows.get(row.name, {})
        if found.get("key") != row.key:
            return {}
        names = {figure.name for figure in row.figures}
        wanted = {str(seed) for seed in row.seeds}
        return {s: v for s, v in found["seeds"].items() if s in wanted and names <= v["values"].keys()}

    def add(self, row: Row, seed: int, measured: dict[str, Any]) -> None:
        """Add the measurement of one seed and write the file."""
        with self._lock:
            here = {"key": row.key, **surroundings()}
            seeds = self.of(row) if self.rows.get(row.name, {}).get("machine") == here["machine"] else {}
            self.rows[row.name] = here | {"seeds": seeds | {str(seed): measured}}
            temporary = self.path.with_suffix(".part")
            temporary.write_text(json.dumps(self.rows, indent=1, sort_keys=True) + "\n")
            temporary.replace(self.path)


def surroundings() -> dict[str, str]:
    """Return what a measurement depends on: machine, torch and commit."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.machine()}, {cores} cores"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name(0)}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    return {"machine": machine, "torch": torch.__version__.partition("+")[0], "commit": commit.strip()}


def status(row: Row, measured: dict[str, Any], gpu: bool) -> str:
    """Return how many seeds were measured in which time, or why none was."""
    if measured:
        minutes = statistics.fmean(seed["minutes"] for seed in measured.values())
        of = len(row.seeds) if len(measured) < len(row.seeds) else None
        return f"{counted(len(measured), 'seeds', of)}, {minutes:.1f} minutes each"
    return "not run here: needs a GPU" if row.gpu and not gpu else f"not run: {row.minutes * len(row.seeds):g} minutes"


def lines(row: Row, measured: dict[str, Any]) -> list[list[str]]:
    """Return the row as lines of the table, one for each figure."""
    table = []
    for figure in row.figures:
        values = [seed["values"][figure.name] for seed in measured.values()]
        table.append([figure.name, figure.target, _shown(values), figure.verdict(values) if values else ""])
    return table


def summary(row: Row, measured: dict[str, Any]) -> str:
    """Return how many of the claimed figures are reproduced, within the tolerance of the row, or not reproduced."""
    verdicts = [line[-1] for line in lines(row, measured) if line[-1]]
    counts = Counter(next(name for start, name in KINDS.items() if verdict.startswith(start)) for verdict in verdicts)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{counts[name]} {name}" for name in KINDS.values() if name in counts)


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4g}"
    return f"{mean} (sd {statistics.stdev(values):.2g})" if len(values) > 1 else mean


def page(rows: dict[str, Row], measurements: Measurements, gpu: bool) -> str:
    """Return the measurements as Markdown: a table of the rows, and one of the figures of each measured row."""
    head = [
        "`make reproduce` measures these claims; `make reproduce ROWS=NAME` measures one. Each row is a file in",
        "`benchmarks/reproduce/`, with its source and commands. Its figures stand below, under its name. sd is the",
        "standard deviation over the seeds. *Within x* means within the tolerance of the row, but not equal;",
        "*not shown* means that the mean keeps the bound, but not its one-sided 95 % interval over the seeds",
        "(Student's). A figure without a claim is there to compare with.",
        "",
        *_head("row", "claim", "figures", "measured"),
    ]
    below = []
    for row in sorted(rows.values(), key=lambda row: row.name):
        measured = measurements.of(row)
        link, count = f"[{row.name}](#{row.name})" if measured else row.name, status(row, measured, gpu)
        verdicts = summary(row, measured)
        head.append(_line(link, row.claim, verdicts, count))
        if measured:
            below += ["", f"### {row.name}", "", f"**{row.claim}.**", f"Source: {row.source}."]
            below.append(f"Measured: {count}, on {measurements.rows[row.name]['machine']}.")
            reason = "Not reproduced" if "not reproduced" in verdicts else "Differences"
            below += [f"{reason}: {row.why}."] if row.why else []
            below += ["", *_head(*HEADER), *(_line(*line) for line in lines(row, measured))]
    return "\n".join([*head, *below])


def _head(*names: str) -> list[str]:
    return [_line(*names), f"|{'---|' * len(names)}"]


def _line(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def write_page(table: str, path: Path = PAGE) -> None:
    """Replace the text between the markers."""
    text = path.read_text()
    before, marker, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (marker and end):
        raise RowError(f"{path.name} has no {BEGIN} ... {END}")
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def show(rows: dict[str, Row], measurements: Measurements, gpu: bool) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*HEADER, title="Claims and measurements")
    for row in rows.values():
        measured = measurements.of(row)
        table.add_section()
        table.add_row(f"[bold]{row.name}[/bold]: {escape(row.claim)}", "", "", status(row, measured, gpu))
        for line in lines(row, measured):
            table.add_row(*map(escape, line))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def chosen(rows: dict[str, Row], names: str) -> dict[str, Row]:
    """Return the rows of a comma-separated list of names; all for an empty list."""
    wanted = [name for name in names.split(",") if name]
    if unknown := [name for name in wanted if name not in rows]:
        raise RowError(f"--rows {unknown[0]}: there is no such row; the rows are {', '.join(rows)}")
    return {name: rows[name] for name in wanted} if wanted else rows


def run(rows: dict[str, Row], measurements: Measurements, budget: float, jobs: int, gpu: bool, named: bool) -> bool:
    """Measure the rows that fit the budget in minutes, several seeds at a time; return whether none failed.

    The budget is compared with the estimates of the rows; rows that are named are measured whatever their time.
    """
    left, tasks = budget, []
    for row in rows.values():
        missing = [seed for seed in row.seeds if str(seed) not in measurements.of(row)]
        needed = row.minutes * len(missing)
        if named and not missing:
            print(f"{row.name} is measured already, in {measurements.path.name}; --again measures it again")
        if not missing or (row.gpu and not gpu) or (not named and needed > left):
            continue
        left -= needed
        tasks += [(row, seed) for seed in missing]

    def measure(task: tuple[Row, int]) -> bool:
        row, seed = task
        print(f"{row.name}, seed {seed} (about {row.minutes:g} minutes) ...", flush=True)
        try:
            measurements.add(row, seed, row.measure(seed, OUT / row.name / str(seed)))
        except RowError as error:
            print(error, file=sys.stderr, flush=True)
            return False
        return True

    with ThreadPoolExecutor(jobs) as pool:
        return all(list(pool.map(measure, tasks)))


def main() -> None:
    """Parse the arguments, measure, and write the table."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=30, help="minutes, by the estimates of the rows (default: 30)")
    parser.add_argument("--rows", default="", help="names, separated by commas: measured whatever their time")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (default: 1)")
    parser.add_argument("--again", action="store_true", help="measure rows again that are measured already")
    parser.add_argument("--measured", type=Path, default=ROWS / "measured.json", help="file of the measurements")
    parser.add_argument("--list", action="store_true", help="only print the table")
    args = parser.parse_args()
    try:
        everything = load_rows()
        rows = chosen(everything, args.rows)
        measurements = Measurements(args.measured)
        if args.again:
            for name in rows:
                measurements.rows.pop(name, None)
        gpu = torch.cuda.is_available()
        fine = args.list or run(rows, measurements, args.budget, args.jobs, gpu, named=bool(args.rows))
        show(rows, measurements, gpu)
        if not args.list:
            write_page(page(everything, measurements, gpu))
            print(f"Written to {PAGE.relative_to(ROOT)}")
    except RowError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the same command goes on with the seeds that are missing") from None
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
