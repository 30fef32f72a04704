"""Where results of an application go: whole or not at all, and never over older ones unasked."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.figures import sprites
from autoenc.files import write_json
from autoenc.loading import Run
from autoenc.training.rundir import disk_errors
from autoenc.training.tracking import Tracker, console, method_table


class Outputs:
    """The files of one application, gathered aside and moved into place together when the block ends well.

        with Outputs(run, "denoise", args.output, args.force) as out:
            out.json({"psnr": ...})
            out.figure("examples", image)

    Args:
        name: of the application; the results lie in RUN/<name>/, the summary is <name>.json.
        folder: somewhere else. Figures go to the run's TensorBoard in any case, as <name>/<figure>.
        force: write over what is there.

    Raises:
        UserError: there are results already; at once, not after the work is done.
    """

    def __init__(self, run: Run, name: str, folder: str | Path | None = None, force: bool = False):
        self.run, self.name, self.force = run, name, force
        self.folder = Path(folder) if folder is not None else run.path / name
        self.figures: dict[str, np.ndarray] = {}
        self.projector: tuple[Tensor, list[str] | None, Tensor | None] | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--output {self.folder}: is a file; name a folder")
        self._refuse(f"{name}.json")

    def __enter__(self) -> Outputs:
        above = self.folder
        while not above.exists():
            above = above.parent
        try:
            self._aside = Path(tempfile.mkdtemp(prefix=f".{self.name}.", dir=above))
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with disk_errors(self.folder):
                    self._keep()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _keep(self) -> None:
        names = sorted(path.name for path in self._aside.iterdir())
        for name in names:
            self._refuse(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(self._aside / name, self.folder / name)
        if self.figures or self.projector:
            tracker = Tracker(self.run.path)
            for name, image in self.figures.items():
                tracker.writer.add_image(f"{self.name}/{name}", image, 0, dataformats="HWC")
            if self.projector:
                tracker.embedding(*self.projector, tag=self.name)
            tracker.close()

    def _refuse(self, name: str) -> None:
        if not self.force and (self.folder / name).exists():
            raise UserError(f"{self.folder / name}: is there already; --force writes over it")

    def path(self, name: str) -> Path:
        """Where a library may write a file of that name."""
        return self._aside / name

    def json(self, value: Mapping[str, Any]) -> None:
        """The summary: <name>.json."""
        write_json(self.path(f"{self.name}.json"), dict(value))

    def npz(self, name: str, **arrays: np.ndarray) -> None:
        """Arrays, compressed."""
        np.savez_compressed(self.path(f"{name}.npz"), allow_pickle=False, **arrays)

    def csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        self.path(f"{name}.csv").write_text(text.getvalue())

    def figure(self, name: str, image: np.ndarray) -> None:
        """An (H, W, 3) uint8 picture as PNG, and in the run's TensorBoard."""
        from PIL import Image

        Image.fromarray(image).save(self.path(f"{name}.png"))
        self.figures[name] = image

    def embedding(self, codes: np.ndarray, labels: list[str] | None, split: Split) -> None:
        """Codes (N, K) for TensorBoard's projector, with thumbnails where the examples are images."""
        thumbnails = sprites(split, self.run.spec, len(codes))
        self.projector = torch.from_numpy(codes), labels, thumbnails

    def images(self, names: Sequence[str], images: np.ndarray) -> None:
        """A PNG for each image (N, C, H, W) in data space, under its name; numbers get a word in front."""
        from PIL import Image

        low, high = self.run.spec.low, self.run.spec.high
        tiles = ((images - low) / max(high - low, 1e-12)).clip(0, 1).transpose(0, 2, 3, 1)
        for name, tile in zip(names, (tiles * 255).round().astype(np.uint8), strict=True):
            stem = f"image_{int(name):05d}" if name.isdigit() else Path(name).stem
            Image.fromarray(tile.squeeze(-1) if tile.shape[-1] == 1 else tile).save(self.path(f"{stem}.png"))

    def table(self, title: str, rows: Mapping[str, Mapping[str, float | str]]) -> None:
        """Numbers on the screen: a line for each method."""
        if rows:
            console().print(method_table(title, rows))

    def say(self, text: str) -> None:
        """A line on the screen."""
        console().print(text)
