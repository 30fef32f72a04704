"""Printing for people: the console, tables of metrics, progress of applications."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import rich.progress
from rich.console import Console
from rich.table import Table

from autoenc.metric_table import label as metric_label
from autoenc.text import printable

T = TypeVar("T")


def track(items: Sequence[T], text: str) -> Iterator[T]:
    """Yield the items, with a progress bar on stderr if it is a terminal."""
    console = Console(stderr=True)
    yield from rich.progress.track(items, text, console=console, transient=True, disable=not console.is_terminal)


def stages(names: Sequence[str], text: str) -> Iterator[str]:
    """Yield the names of long steps, and print each to stderr when it begins."""
    console = Screen(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for number, name in enumerate(names, 1):
        console.print(f"{text} {number} of {len(names)}: {name}")
        yield name


def result_table(title: str, rows: Mapping[str, Mapping[str, Any]], units: Mapping[str, str] | None = None) -> Table:
    """Return a table with a column for each key of `rows` and a row for each metric.

    Args:
        units: of metrics with another unit than in metric_table.
    """
    turned: dict[str, dict[str, Any]] = {}
    for key, values in rows.items():
        for name, value in values.items():
            turned.setdefault(metric_label(name, units), {})[key] = value
    return method_table(title, turned, digits=5, metrics=False)


def method_table(title: str, rows: Mapping[str, Mapping[str, Any]], digits: int = 4, metrics: bool = True) -> Table:
    """Return a table with a row for each key of `rows` and a column for each metric.

    Args:
        metrics: the columns are metrics, with units; otherwise names that a metric may share, such as those of models.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    columns = list(dict.fromkeys(k for values in rows.values() for k in values))
    for name in columns:
        heading = metric_label(name) if metrics else printable(name)
        table.add_column(heading, justify="right", overflow="fold")
    for label, values in rows.items():
        cells = (values.get(name, "") for name in columns)
        texts = (f"{c:,.{digits}g}" if isinstance(c, float | int) else printable(c) for c in cells)
        table.add_row(printable(label), *texts)
    return table


class Screen(Console):
    """A console that escapes the control characters of texts, which may be names from the user's files."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts and tables."""
        super().print(*(printable(each, keep="\n") if isinstance(each, str) else each for each in objects), **options)


def console() -> Console:
    """Return the console of the applications, 120 characters wide if there is no terminal."""
    screen = Screen(highlight=False, soft_wrap=True, markup=False)
    if not screen.is_terminal:
        screen.width = 120
    return screen
