"""What several runs on the same data generate: their numbers side by side, and sixteen samples of each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoenc.apps.generation import density, generate, quality
from autoenc.apps.generation import texts as text
from autoenc.apps.generation.density import Density
from autoenc.apps.protocol.bounds import bounded, bounds
from autoenc.errors import UserError
from autoenc.figures import titled
from autoenc.files import atomic, write_json, write_text
from autoenc.loading import Run
from autoenc.metric_table import label
from autoenc.screen import stages
from autoenc.text import csv_text

FILES = ("generators.json", "generators.csv", "generators.png", "samples.csv")
DRAWN, TIMED = 16, 1_000
ACROSS, GAP = 3, 12  # runs beside each other in the figure, pixels between them
DATA = "validation"


@dataclass(frozen=True)
class Generator:
    """A run as a generator: its name, the density of its codes, numbers, and sixteen samples (16, *shape)."""

    name: str
    density: str
    numbers: dict[str, float]
    samples: torch.Tensor


def compare(runs: Sequence[Run], samples: int = 100, examples: int = 1_000) -> list[Generator]:
    """Measure what runs generate; the last one is validation data in place of samples.

    Numbers are those of `quality.quality`, nll_importance where there is a bound on log p(x), and seconds_per_1000.

    Args:
        samples, examples: of nll_importance, see `bounds`.

    Raises:
        UserError: the runs are on different data.
    """
    first = runs[0]
    for run in runs[1:]:
        if (run.spec.name, run.fingerprint) != (first.spec.name, first.fingerprint):
            raise UserError(
                f"--generation: {run.path} is not on the training data of {first.path}; compare runs on one"
            )
    found = []
    rows: Mapping[str, dict[str, float]] = {}
    for run, name in zip(runs, stages(names(runs), "sampling"), strict=True):
        source = density.of(run)
        start, drawn = _timed(run, source)
        rows = _quality(run, source)
        numbers = rows["samples"] | _nll(run, samples, examples) | {"seconds_per_1000": start}
        found.append(Generator(name, source.text, numbers, drawn[:DRAWN]))
    real = first.data.val.sample(DRAWN).take(slice(None)).x.cpu()
    return [*found, Generator(DATA, "", rows["validation"], real)]


def names(runs: Sequence[Run]) -> list[str]:
    """Return the model of each run; the prior, the directory, and the whole path too as far as names would repeat."""
    found = [run.name for run in runs]
    found = [name + (_prior(run) if found.count(name) > 1 else "") for name, run in zip(found, runs, strict=True)]
    folders = [run.path.name if len({r.path.name for r in runs}) == len(runs) else str(run.path) for run in runs]
    return [f"{name} {folder}" if found.count(name) > 1 else name for name, folder in zip(found, folders, strict=True)]


def _prior(run: Run) -> str:
    prior = run.record.get("choices", {}).get("prior", "default")
    return "" if prior == "default" else f"+{prior}"


def _timed(run: Run, source: Density) -> tuple[float, torch.Tensor]:
    """Return the seconds that 1,000 samples take, after some that are not counted, and the samples."""
    _drawn(run, source, DRAWN)
    start = time.perf_counter()
    drawn = _drawn(run, source, TIMED)
    return time.perf_counter() - start, drawn


def _drawn(run: Run, source: Density, n: int) -> torch.Tensor:
    of_texts = not run.spec.kind.continuous
    return torch.from_numpy(text.samples(run, n, source).ids if of_texts else generate.samples(run, n, source).x)


def _quality(run: Run, source: Density) -> dict[str, dict[str, float]]:
    if not run.spec.kind.continuous:
        return text.quality(run, source)
    return quality.of_density(run, source)


def _nll(run: Run, samples: int, examples: int) -> dict[str, float]:
    if not bounded(run):
        return {}
    return {"nll_importance": float(bounds(run, run.data.test.sample(examples), samples).nll.mean())}


def summary(runs: Sequence[Run], found: Sequence[Generator]) -> dict[str, Any]:
    """Return the contents of generators.json."""
    paths = [*[str(run.path) for run in runs], ""]
    facts = zip(found, paths, strict=True)
    return {each.name: {**each.numbers, "density": each.density, "run": path} for each, path in facts}


def write(runs: Sequence[Run], found: Sequence[Generator], folder: Path) -> list[Path]:
    """Write the numbers as JSON and CSV, and the samples as a figure or a CSV file; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for each in found for column in each.numbers))
    numbers = summary(runs, found)
    header = ["model", "run", "density", *map(label, columns)]
    rows = [
        [name, each["run"], each["density"], *(each.get(column, "") for column in columns)]
        for name, each in numbers.items()
    ]
    write_json(folder / FILES[0], numbers)
    write_text(folder / FILES[1], csv_text([header, *rows]))
    image = figure(runs[0], found)
    if image is None:
        write_text(folder / FILES[3], csv_text(_listing(runs[0], found)))
        return [folder / name for name in (*FILES[:2], FILES[3])]
    from PIL import Image

    with atomic(folder / FILES[2]) as file:
        Image.fromarray(image).save(file, format="png")
    return [folder / name for name in FILES[:3]]


def figure(run: Run, found: Sequence[Generator]) -> np.ndarray | None:
    """Draw sixteen samples of each, titled by its name; None for kinds that are listed as text."""
    drawn = [(each.name, run.spec.kind.sheet(each.samples, 4)) for each in found]
    tiles = [titled(image, name) for name, image in drawn if image is not None]
    if len(tiles) < len(drawn):
        return None
    height, width = (max(tile.shape[i] for tile in tiles) + GAP for i in (0, 1))
    across = min(ACROSS, len(tiles))
    canvas = np.full((-(-len(tiles) // across) * height, across * width, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // across * height, i % across * width
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas


def _listing(run: Run, found: Sequence[Generator]) -> Iterator[list[Any]]:
    """Yield the header and the samples of all models as rows of a CSV file."""
    for i, each in enumerate(found):
        listed = run.spec.kind.listing(each.samples)
        assert listed is not None
        header, rows = listed
        if i == 0:
            yield ["model", *header]
        yield from ([each.name, *row] for row in rows)
