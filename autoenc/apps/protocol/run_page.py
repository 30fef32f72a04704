"""One HTML page about a run: its data, settings, numbers, verdict, figures and commands, for a thesis or a ticket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autoenc import page
from autoenc.apps.protocol.compare import Row, json_object, read_run
from autoenc.apps.protocol.evaluate import tables
from autoenc.apps.protocol.groups import grouped
from autoenc.apps.protocol.statistics import half_width
from autoenc.errors import DataError, UserError, one_line
from autoenc.files import plain_yaml, read_text
from autoenc.metric_table import label, legend
from autoenc.text import flat
from autoenc.training.rundir import applications, check_run, read_record

LISTED = 20  # classes that are named
FIGURES = 60  # pictures of a page
PARTS = ("val", "test", "latent", "perf")


def run_page(folders: Sequence[Path]) -> str:
    """Return the page of a run, or of runs that differ only in their seeds: then numbers are means with intervals.

    The first run gives the data, the settings and the figures.

    Raises:
        UserError: a folder is no run, a run is not finished, or the runs differ in other settings. DataError: a file
            is damaged.
    """
    for folder in folders:
        check_run(folder)
    first = folders[0]
    record, rows = read_record(first), [read_run(folder, whole=True) for folder in folders]
    for folder, row in zip(folders, rows, strict=True):
        if row.state != "finished":
            why = f" ({row.error.removeprefix(f'{folder}: ')})" if row.error else ""
            raise UserError(f"{folder}: is {row.state}{why}; a report is of finished runs")
    settings = [row.settings for row in rows]
    keys = sorted({k for one in settings for k in one if any(one[k] != other.get(k) for other in settings)})
    groups, others = grouped(rows, keys)
    if len(groups) > 1:
        why = f"differ in {', '.join(others)}" if others else "repeat a seed"
        raise UserError(f"the runs {why}: scripts/compare.py compares runs; a report is of one setting")
    try:
        return _page(folders, record, rows)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"run.json, summary.json or evaluation.json is damaged ({one_line(error)})"
        raise DataError(f"{first}: {why}; copy the run again") from None


def _page(folders: Sequence[Path], record: Mapping[str, Any], rows: Sequence[Row]) -> str:
    first = folders[0]
    model, data = record.get("choices", {}).get("model", "model"), record.get("data", {})
    summaries = [json_object(folder / "summary.json") for folder in folders]
    evaluation = json_object(first / "evaluation.json")
    return page.document(
        f"{model} on {data.get('name', 'data')}",
        [
            page.lines(_facts(record, folders, summaries[0])),
            page.heading("Data"),
            page.table([], _card(data)),
            page.heading("Numbers"),
            *_numbers(summaries),
            *_evaluation(evaluation, model, first if len(folders) > 1 else None),
            page.heading("Figures"),
            *_pictures(first),
            page.heading("Settings"),
            *_settings(first, record),
            page.heading("Commands"),
            page.code("\n".join([*(row.command for row in rows), *_scripts(first)])),
        ],
    )


def _facts(record: Mapping[str, Any], folders: Sequence[Path], summary: Mapping[str, Any]) -> Iterator[str]:
    if verdict := summary.get("verdict"):
        yield str(verdict)
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    yield f"trained {str(record.get('started', ''))[:10]} on {record.get('device', 'cpu')}; {versions}"
    if revision := record.get("git"):
        yield f"commit {revision}"
    yield f"run{'s' if len(folders) > 1 else ''}: {', '.join(folder.name for folder in folders)}"


def _card(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what the data are, as rows of a table."""
    classes = [str(name) for name in data.get("classes") or []]
    more = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
    rows = [
        ("data set", data.get("name", "")),
        ("kind", data.get("kind", "")),
        ("shape of an example", " x ".join(map(str, data.get("shape") or []))),
        *((f"{name} examples", f"{data[part]:,}") for name, part in
          (("training", "train"), ("validation", "val"), ("test", "test")) if part in data),
        ("classes", ", ".join(classes[:LISTED]) + more),
        ("classes left out of training", ", ".join(map(str, data.get("anomalies") or []))),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value != ""]


def _numbers(summaries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the metrics of the run as a table, means with 95 % intervals over several runs."""
    names: dict[str, None] = {}
    for part in PARTS:
        names |= dict.fromkeys(k for k, v in summaries[0].get(part, {}).items() if isinstance(v, int | float))
    used = [part for part in PARTS if summaries[0].get(part)]

    def cell(part: str, name: str) -> str:
        values = [v for s in summaries if isinstance(v := s.get(part, {}).get(name), int | float)]
        half = half_width(values)
        mean = _shown(sum(values) / len(values), 5) if values else ""
        return mean if half is None else f"{mean} ± {half:.2g}"

    header = {"val": "validation", "test": "test", "latent": "codes of test data", "perf": "performance"}
    yield page.table(
        ["metric", *(header[part] for part in used)],
        [[label(name), *(cell(part, name) for part in used)] for name in names],
    )
    notes = legend(names, *(s.get(part, {}) for s in summaries for part in used))
    if len(summaries) > 1:
        notes.append(f"± half the width of the 95 % interval of the mean over {len(summaries)} seeds (Student's t)")
    yield page.lines(notes)


def _evaluation(results: Mapping[str, Any], model: str, of: Path | None) -> Iterator[str]:
    """Yield the sections of evaluation.json, with the baselines and the remarks that are in it."""
    if not results:
        yield page.lines(["scripts/evaluate.py adds probes, retrieval, clustering, generation and more"])
        return
    if of is not None:
        yield page.lines([f"The sections below are of {of.name}"])
    for title, rows, below in tables(dict(results), model):
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        yield page.heading(title, 3)
        body = [[name, *(_shown(row.get(column)) for column in columns)] for name, row in rows.items()]
        yield page.table(["", *map(label, columns)], body)
        if below:
            yield page.lines([below])
    if skipped := results.get("skipped"):
        yield page.lines([f"not measured: {name}: {why}" for name, why in skipped.items()])


def _shown(value: Any, digits: int = 4) -> str:
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _pictures(run_dir: Path) -> Iterator[str]:
    """Yield the pictures of the run and of the applications that were run on it, each under its name."""
    found = sorted(run_dir.glob("figures/*.png"))
    found += [path for folder in applications(run_dir) for path in sorted(folder.rglob("*.png"))]
    for path in found[:FIGURES]:
        yield page.heading(str(path.relative_to(run_dir).with_suffix("")), 3)
        yield page.picture(path)
    if len(found) > FIGURES:
        yield page.lines([f"and {len(found) - FIGURES} more pictures in the run"])
    if not found:
        yield page.lines(["none"])


def _settings(run_dir: Path, record: Mapping[str, Any]) -> Iterator[str]:
    choices = ", ".join(f"{group}={option}" for group, option in record.get("choices", {}).items())
    yield page.lines([choices])
    path = run_dir / "config.yaml"
    settings = flat(plain_yaml(read_text(path))) if path.exists() else {}
    body = page.table(["key", "value"], sorted((k, str(v)) for k, v in settings.items()))
    yield f"<details><summary>all {len(settings)} settings</summary>{body}</details>"


def _scripts(run_dir: Path) -> Iterator[str]:
    """Yield the scripts whose results are in the run."""
    if (run_dir / "evaluation.json").exists():
        yield "python scripts/evaluate.py RUN"
    named = {"feedback": "detect.py RUN --feedback FILE", "detector": "export.py RUN --detector"}
    for folder in applications(run_dir):
        yield f"python scripts/{named.get(folder.name, f'{folder.name}.py RUN')}"
