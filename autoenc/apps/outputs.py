"""Writing results of an application: all files or none, and older results are not overwritten by default."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.canvas import as_rgb
from autoenc.data.split import Split
from autoenc.errors import UserError, check_new, one_line
from autoenc.figures import sprites
from autoenc.files import check_inside, finite, write_json
from autoenc.loading import Run
from autoenc.metric_table import legend
from autoenc.screen import console, method_table, result_table
from autoenc.text import csv_text, printable
from autoenc.training.rundir import disk_errors, quiet_threads
from autoenc.training.tracking import FIGURES, RESULTS, Tracker

COLUMNS = 4  # of a table with a single row


class Outputs:
    """The files of one application, collected in a temporary folder and moved into place when the block succeeds.

        with Outputs(run, "denoise", args.output, args.force) as out:
            out.json({"psnr": ...})
            out.figure("examples", image)

    Args:
        name: of the application; results are written to RUN/<name>/, the summary to <name>.json.
        folder: another folder. Figures are also added to the run's TensorBoard, as view/<name>/<figure>.
        force: overwrite existing results.
        call: kind of call, such as `pca`: its results go to RUN/<name>/<call>/; empty for the default one.

    Raises:
        UserError: results exist; at the start, not after the computation.
    """

    def __init__(self, run: Run, name: str, folder: str | Path | None = None, force: bool = False, call: str = ""):
        self.run, self.name, self.force = run, name, force
        self.folder = Path(folder) if folder is not None else run.path / name / call
        self.tag = f"{name}/{call}".rstrip("/")  # in TensorBoard
        self.summary: dict[str, Any] = {}  # as <name>.json has it
        self.explained: dict[str, None] = {}  # metrics, below their first table
        self.figures: dict[str, np.ndarray] = {}
        self.projector: tuple[Tensor, list[str] | None, Tensor | None] | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--output {self.folder}: is a file; name a folder")
        check_new(self.folder / f"{name}.json", force)

    @property
    def in_run(self) -> bool:
        """Whether the results go into the run directory."""
        return Path(os.path.abspath(self.folder)).is_relative_to(os.path.abspath(self.run.path))  # without ..

    def __enter__(self) -> Outputs:
        if self.in_run:
            check_inside(self.run.path)
        parent = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        try:
            self._temporary = Path(tempfile.mkdtemp(prefix=f".{self.name}.", dir=parent))
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with quiet_threads(), disk_errors(self.folder):
                    self._move()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _move(self) -> None:
        files = (path for path in self._temporary.rglob("*") if not path.is_dir())
        names = sorted(path.relative_to(self._temporary) for path in files)
        for name in names:
            check_new(self.folder / name, self.force)
        for name in names:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._temporary / name, self.folder / name)
        try:
            if self.figures or self.projector:
                self._to_tensorboard()
        except (OSError, UserError) as error:
            if self.in_run:
                raise
            warnings.warn(f"TensorBoard does not have the figures: {one_line(error)}", stacklevel=3)

    def _to_tensorboard(self) -> None:
        tracker = Tracker(self.run.path, suffix=RESULTS)
        for name, image in self.figures.items():
            tracker.writer.add_image(f"{FIGURES}/{self.tag}/{name}", image, 0, dataformats="HWC")
        if self.projector:
            tracker.embedding(*self.projector, tag=self.tag.replace("/", "_"))
        tracker.close()

    def path(self, name: str) -> Path:
        """Return the temporary path of a file."""
        return self._temporary / name

    def json(self, value: Mapping[str, Any]) -> None:
        """Write the summary, <name>.json."""
        self.summary = finite(dict(value))
        write_json(self.path(f"{self.name}.json"), self.summary)

    def npz(self, name: str, **arrays: np.ndarray) -> None:
        """Write compressed arrays."""
        np.savez_compressed(self.path(f"{name}.npz"), allow_pickle=False, **arrays)

    def csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a table, see `text.csv_text`."""
        self.path(f"{name}.csv").write_text(csv_text([header, *rows]), encoding="utf-8", errors="backslashreplace")

    def text(self, name: str, lines: Iterable[str]) -> None:
        """Write lines of text, without control characters."""
        text = "".join(f"{printable(line)}\n" for line in lines)
        self.path(f"{name}.txt").write_text(text, encoding="utf-8")

    def figure(self, name: str, image: np.ndarray) -> None:
        """Write an (H, W, 3) uint8 image as PNG and to the run's TensorBoard."""
        from PIL import Image

        Image.fromarray(image).save(self.path(f"{name}.png"))
        self.figures[name] = image

    def embedding(self, codes: np.ndarray, labels: list[str] | None, split: Split) -> None:
        """Write codes (N, K) for TensorBoard's projector, with thumbnails for images."""
        thumbnails = sprites(split, self.run.spec, len(codes))
        self.projector = torch.from_numpy(codes), labels, thumbnails

    def images(self, names: Sequence[str], images: np.ndarray) -> None:
        """Write each image (N, C, H, W) in data space as a PNG under its name, which may have folders.

        image_ is prepended to numbers. Where a name without suffix is taken, the suffix stays: a.png, a.jpg.png.
        """
        from PIL import Image

        low, high = self.run.spec.low, self.run.spec.high
        tiles = ((torch.from_numpy(images) - low) / max(high - low, 1e-12)).clamp(0, 1)
        tiles = tiles if tiles.shape[1] == 1 else as_rgb(tiles)
        for name, tile in zip(names, (tiles * 255).round().byte().permute(0, 2, 3, 1).numpy(), strict=True):
            stem = Path(f"image_{int(name):05d}.png" if name.isdigit() else name)
            path = self.path(str(stem.with_suffix(".png")))
            path = self.path(f"{stem}.png") if path.exists() else path
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile.squeeze(-1) if tile.shape[-1] == 1 else tile).save(path)

    def table(self, title: str, rows: Mapping[str, Mapping[str, float | str]], remark: str = "") -> None:
        """Print a table of numbers, a row for each method or, of one method, for each number; below it, what arrows,
        units and misleading names mean, each once, and a remark.
        """
        if len(rows) == 1 and len(next(iter(rows.values()))) > COLUMNS:
            console().print(result_table(title, rows))
        elif rows:
            console().print(method_table(title, rows))
        names = dict.fromkeys(name for values in rows.values() for name in values)
        for line in legend(names, after=self.explained):
            self.say(line)
        self.explained |= names
        if remark:
            self.say(remark)

    def say(self, text: str) -> None:
        """Print a line."""
        console().print(printable(text, keep="\n"))
