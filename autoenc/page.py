"""HTML pages of one file, which need no network: text, tables that are sorted by a click on a heading, pictures."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autoenc.text import printable

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 100em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3em .7em; text-align: left; vertical-align: top }
th { background: #f4f4f4; white-space: pre-line } table.sort th { cursor: pointer }
.n { text-align: right } td.n { white-space: nowrap }
img { max-width: 100%; image-rendering: auto } pre { background: #f4f4f4; padding: .7em; overflow-x: auto }
"""
NUMBER = re.compile(r"[-+]?\d[\d.,e+-]*($|[ *])")
SORT = """
for (const th of document.querySelectorAll('table.sort th')) th.onclick = () => {
  const body = th.closest('table').tBodies[0], i = th.cellIndex, up = th.dataset.up = th.dataset.up === '1' ? '' : '1';
  const key = row => row.cells[i].textContent.trim();
  const compare = (a, b) => {
    const x = parseFloat(key(a)), y = parseFloat(key(b));
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || key(a).localeCompare(key(b)) * (up ? 1 : -1);
    return (x - y) * (up ? 1 : -1);
  };
  body.append(...[...body.rows].sort(compare));
};
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of its title and of parts, which are HTML."""
    title = escaped(title)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
    return "\n".join([head, f"<h1>{title}</h1>", *parts, f"<script>{SORT}</script></html>"]) + "\n"


def escaped(text: str) -> str:
    """Return text as HTML that shows it, its control characters escaped."""
    return html.escape(printable(text, keep="\n"))


def heading(text: str, level: int = 2) -> str:
    """Return a heading of a section."""
    return f"<h{level}>{escaped(text)}</h{level}>"


def lines(texts: Iterable[str]) -> str:
    """Return a paragraph of lines; spaces at their beginning are kept."""
    indented = (re.sub(r"^ +", lambda m: "&emsp;" * len(m[0]), escaped(text)) for text in texts)
    return f"<p>{'<br>'.join(indented)}</p>"


def code(text: str) -> str:
    """Return text as it is, for commands."""
    return f"<pre>{escaped(text)}</pre>"


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; a click on a heading sorts by that column, numbers by value. Without headings it is as it is."""
    texts = [[f"{value:.5g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    kinds = [[" class=n" if NUMBER.match(text) else "" for text in row] for row in texts]
    of_headings = [max(column) for column in zip(*kinds, strict=True)] or [""] * len(header)
    body = "".join(f"<tr>{_cells('td', *row)}</tr>\n" for row in zip(texts, kinds, strict=True))
    head = f"<thead><tr>{_cells('th', map(str, header), of_headings)}</tr></thead>" if any(header) else ""
    return f"<table{' class=sort' if head else ''}>{head}<tbody>\n{body}</tbody></table>"


def picture(path: Path) -> str:
    """Return a PNG file as part of the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{escaped(path.stem)}" src="data:image/png;base64,{data}"></p>'


def _cells(tag: str, texts: Iterable[str], kinds: Iterable[str]) -> str:
    return "".join(f"<{tag}{kind}>{escaped(text)}</{tag}>" for text, kind in zip(texts, kinds, strict=True))
