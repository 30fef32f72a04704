"""Compared runs: reading, ranking, and the settings in which they differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autoenc.errors import ConfigError, DataError, one_line, suggest
from autoenc.files import plain_yaml, read_json, read_text
from autoenc.metric_table import headline
from autoenc.metric_table import metric as metric_row
from autoenc.text import flat, printable
from autoenc.training.rundir import find_run

IRRELEVANT = (  # settings that do not change the result
    *("trainer.device", "trainer.threads", "trainer.figures", "trainer.eval_batch_size"),
    "tracking",
    *("data.workers", "data.cache", "data.cache_folder"),
)
LATENT = "model.latent_dim"


@dataclass(frozen=True)
class Row:
    """A run: its settings, its metrics, and how it ended.

    Args:
        state: of run.json, or `damaged`.
        val: validation metrics, which runs are ranked by.
        numbers: test, latent, performance and evaluation metrics, which are shown.
        folder: the run directory.
        command: what trains the run again.
    """

    name: str
    state: str
    settings: dict[str, Any]
    val: dict[str, float] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    error: str = ""
    folder: Path | None = None
    command: str = ""

    @cached_property
    def validation(self) -> list[tuple[int, dict[str, float]]]:
        """The validation metrics of metrics.jsonl, (step, name -> value); none if the file is missing or damaged."""
        return _validation(self.folder)


AnyRow = TypeVar("AnyRow", bound=Row)


def read_run(run_dir: Path, whole: bool = False) -> Row:
    """Return the row of a run directory. Files may be missing; a damaged file makes a row that has only its error.

    Args:
        whole: the settings are those of the config; otherwise, and if there is no config, those of the command line.
    """
    try:
        record, summary, evaluation = (
            json_object(run_dir / f"{name}.json") for name in ("run", "summary", "evaluation")
        )
        if record.get("state") == "finished" and not summary:
            raise DataError("summary.json is missing or empty")
        settings = (_settings(run_dir, record) if whole else {}) or _overrides(run_dir)
        parts = [_numbers(summary.get(part) or {}) for part in ("test", "latent", "baselines", "perf")]
        return Row(
            name=printable(run_dir.name),
            state=printable(record.get("state", "not started")),
            settings={printable(k): printable(v) if isinstance(v, str) else v for k, v in settings.items()},
            val=_numbers(summary.get("val") or {}),
            numbers={name: value for part in (*parts, _numbers(flat(evaluation))) for name, value in part.items()},
            error=printable(record.get("error", "")),
            folder=run_dir,
            command=_command(run_dir),
        )
    except (DataError, OSError, ValueError, TypeError, AttributeError) as error:
        return Row(printable(run_dir.name), "damaged", {}, error=printable(f"{run_dir}: {one_line(error)}"))


def json_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file of a run; empty if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    try:
        value = read_json(path) if path.exists() else {}
    except ValueError:
        raise DataError(f"{path.name} is damaged: not JSON") from None
    if not isinstance(value, dict):
        raise DataError(f"{path.name} is damaged: not a JSON object")
    return value


def _validation(run_dir: Path | None) -> list[tuple[int, dict[str, float]]]:
    path = run_dir / "metrics.jsonl" if run_dir else None
    if path is None or not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in read_text(path).splitlines()]
        return [(int(line["step"]), _numbers(line)) for line in lines if line.get("split") == "val"]
    except (ValueError, KeyError, TypeError, AttributeError, DataError):
        return []


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers; what is not finite is stored as null."""
    return {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _command_line(run_dir: Path) -> list[str]:
    path = run_dir / ".hydra" / "overrides.yaml"
    return plain_yaml(read_text(path)) if path.exists() else []


def _command(run_dir: Path) -> str:
    """Return the command that trains a run again."""
    return shlex.join(["python", "train.py", *map(str, _command_line(run_dir))])


def _overrides(run_dir: Path) -> dict[str, Any]:
    """Return the settings of the command line: model=vae, model.latent_dim=8 ..."""
    pairs = (override.lstrip("+").partition("=") for override in _command_line(run_dir))
    return {key: plain_yaml(value) for key, _, value in pairs}


def _settings(run_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the options chosen in the config groups, and every setting."""
    path = run_dir / "config.yaml"
    config = flat(plain_yaml(read_text(path))) if path.exists() else {}
    return {**record.get("choices", {}), **{k: v for k, v in config.items() if "_target_" not in k and v != "{}"}}


def runs_in(paths: Sequence[str | Path]) -> list[Path]:
    """Return the run directories among the paths and below them, each once, jobs of a sweep by number.

    Args:
        paths: or `latest`, see `find_run`.

    Raises:
        DataError: a path does not exist or has no run in it.
    """
    found: dict[Path, None] = {}
    for path in map(find_run, paths):
        if not path.exists():
            raise DataError(f"{path}: no such directory")
        below = [p.parent for p in sorted(path.glob("**/run.json"), key=lambda p: (str(p.parents[1]), job(p.parent)))]
        if not below:
            raise DataError(f"{path}: has no run in it")
        found |= dict.fromkeys(below)
    return list(found)


def job(run_dir: Path) -> tuple[int, str]:
    """Return the key that sorts the jobs of a sweep by number, 2 before 10."""
    number = run_dir.name.partition("_")[0]
    return int(number) if number.isdigit() else 0, run_dir.name


def read_runs(paths: Sequence[str | Path]) -> list[Row]:
    """Return the rows of runs and folders of runs, under names that differ."""
    folders = runs_in(paths)
    rows = [read_run(folder, whole=True) for folder in folders]
    names = [row.name for row in rows]
    return [
        row if names.count(row.name) == 1 else replace(row, name=printable("/".join(folder.parts[-3:])))
        for row, folder in zip(rows, folders, strict=True)
    ]


def differing(rows: Sequence[Row], swept: bool = False) -> list[str]:
    """Return the settings in which the runs differ; that a finished run lacks a setting is a difference too.

    Left out are settings that follow from the option chosen in a config group: runs with network=mlp and network=conv
    differ in `network`, not once more in each option of the two.

    Args:
        swept: the settings are those of a sweep; none is left out.
    """
    done = [row for row in rows if row.numbers]
    keys = dict.fromkeys(k for row in rows for k in row.settings if k not in IRRELEVANT)
    values = {k: {str(row.settings[k]) for row in rows if k in row.settings} for k in keys}
    lacking = {k for k in keys if any(k not in row.settings for row in done)}
    found = [k for k in keys if len(values[k]) > 1 or k in lacking]
    if swept:
        return found
    groups = [k for k in found if "." not in k and k != "seed"]

    def implied(key: str) -> bool:
        group = key.partition(".")[0]
        if group in groups and group != key and key != LATENT and _follows(rows, key, [group]):
            return True
        return key in lacking and len(values[key]) == 1 and key not in groups and _follows(done, key, groups)

    return [k for k in found if not implied(k)]


def _follows(rows: Sequence[Row], key: str, groups: Sequence[str]) -> bool:
    """Return whether runs with the same options of the groups have the same value of a setting."""
    pairs = {(tuple(str(row.settings.get(g)) for g in groups), str(row.settings.get(key))) for row in rows}
    return len(pairs) == len({options for options, _ in pairs})


def chief(rows: Iterable[Row]) -> str:
    """Return the metric that runs are ranked by by default: mse; perplexity for text data."""
    return headline(name for row in rows for name in row.val)


def ranked(rows: Sequence[AnyRow], metric: str) -> list[AnyRow]:
    """Return the rows by a validation metric, best first; rows without it are last.

    Raises:
        ConfigError: no run has a validation metric of that name.
    """
    known = sorted({name for row in rows for name in row.val})
    if known and metric not in known:
        why = f"no run has this metric; {suggest(metric, known)}"
        if any(metric in row.numbers for row in rows):
            why = f"is of the test split only; rank by one of {', '.join(known)}; --show {metric} adds it to the table"
        raise ConfigError("--sort", metric, why)
    sign = metric_row(metric).sign
    return sorted(rows, key=lambda row: (metric not in row.val, sign * row.val.get(metric, 0.0)))


def best(rows: Sequence[AnyRow], metric: str) -> AnyRow | None:
    """Return the run with the best validation value; None without a better direction or with less than two values."""
    have = [row for row in rows if metric in row.val]
    row = metric_row(metric)
    return None if row.higher_is_better is None or len(have) < 2 else min(have, key=lambda r: row.sign * r.val[metric])


def run_label(row: Row) -> str:
    """Return the number of a job of a sweep, or the name of the run."""
    return number if (number := row.name.partition("_")[0]).isdigit() else row.name


def short(value: Any) -> str:
    """Return a setting as text; of a path, the last part."""
    text = str(value).replace("'", "")
    return text.rstrip("/").rpartition("/")[2] if "/" in text else text
