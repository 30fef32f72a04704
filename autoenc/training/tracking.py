"""Logging of metrics: TensorBoard, metrics.jsonl and the console."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autoenc.files import append, atomic, check_inside, finite, write_text
from autoenc.forked import CLEAR
from autoenc.metric_table import label as metric_label
from autoenc.text import printable
from autoenc.trackers import FINISHED, Services

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("autoenc")
METRICS = "metrics.jsonl"
EVENTS, RESULTS = "events.out.tfevents.*", ".results"  # files of TensorBoard; ending of those of applications
PROJECTOR = "00000"  # folder of codes, labels and thumbnails of its projector: the step they are written at
# Groups in TensorBoard, which sorts by name: the curves of train and val come first, then the points of the test split.
TEST, FIGURES, SPEED, CODE = "verdict/test", "view", "wall", "z"
SPARSE = 0.05  # fraction of zeros from which a code is sparse


class Tracker:
    """Writer of the TensorBoard events, figures and metrics.jsonl of a run.

    Args:
        progress: `progress` of the checkpoint that training resumes from; what was written after it is deleted.
        services: get the scalars and images, too.
        suffix: of the event file; RESULTS: it is no part of training, and resuming leaves it as it is.
    """

    def __init__(
        self,
        run_dir: Path,
        progress: Mapping[str, Any] | None = None,
        services: Services | None = None,
        suffix: str = "",
    ):
        check_inside(run_dir)
        self.run_dir, self.services, self.suffix = run_dir, services or Services((), run_dir, {}), suffix
        self._purge: int | None = None
        if progress is not None and not self._truncate(progress.get("written", {})):  # a checkpoint of version 0.2
            self._purge = progress["step"] + 1
            self._drop_after(progress["step"])

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer of TensorBoard events; without any, there is no file."""
        return _summary_writer(self.run_dir, purge_step=self._purge, flush_secs=30, filename_suffix=self.suffix)

    def written(self) -> dict[str, int]:
        """Flush, and return the sizes of metrics.jsonl and the event files."""
        if "writer" in vars(self):
            self.writer.flush()
        return {path.name: path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        files = (self.run_dir / METRICS, *self.run_dir.glob(EVENTS))
        return [path for path in files if path.exists() and path.suffix != RESULTS]

    def _truncate(self, sizes: Mapping[str, int]) -> bool:
        """Cut the files to the sizes that they had at a checkpoint; False if they are not those of the checkpoint."""
        files = self._files()
        present = {path.name: path.stat().st_size for path in files}
        if not sizes or any(present.get(name, -1) < size for name, size in sizes.items()):
            return False
        for path in files:
            if path.name not in sizes:
                path.unlink()
            elif present[path.name] > sizes[path.name]:
                with path.open("rb") as whole, atomic(path) as file:
                    file.write(whole.read(sizes[path.name]))
        return True

    def _drop_after(self, step: int) -> None:
        path = self.run_dir / METRICS
        lines = path.read_text().splitlines() if path.exists() else []
        kept = (
            line for line in lines if _value_of(line, "step", math.inf) <= step and _value_of(line, "split") != "test"
        )
        write_text(path, "".join(f"{line}\n" for line in kept))

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """Write scalars to TensorBoard as prefix/name."""
        for name, value in values.items():
            self.writer.add_scalar(f"{prefix}/{name}", value, step)
        named = {f"{prefix}/{name}": float(value) for name, value in values.items()}
        self.services.each(lambda service: service.scalars(named, step))

    def layout(self, names: Sequence[str], units: Mapping[str, str] | None = None) -> None:
        """Show train/name and val/name on one axis, in TensorBoard's tab of custom scalars."""
        charts = {metric_label(name, units): ["Multiline", [f"train/{name}$", f"val/{name}$"]] for name in names}
        self.writer.add_custom_scalars({"training and validation": charts})

    def evaluation(self, split: str, step: int, epoch: float, values: Mapping[str, float | list[float]]) -> None:
        """Append a line to metrics.jsonl."""
        line = json.dumps(finite({"step": step, "epoch": round(epoch, 4), "split": split, **values}))
        with append(self.run_dir / METRICS) as file:
            file.write(line + "\n")

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, (H, W, 3) uint8, to TensorBoard and figures/name.png."""
        from PIL import Image

        folder = self.run_dir / "figures"
        folder.mkdir(exist_ok=True)
        with atomic(folder / f"{name}.png") as file:
            Image.fromarray(image).save(file, format="png")
        self.writer.add_image(f"{FIGURES}/{name}", image, step, dataformats="HWC")
        self.services.each(lambda service: service.image(f"{FIGURES}/{name}", image, step))

    def text(self, name: str, lines: Sequence[str], step: int) -> None:
        """Write lines to TensorBoard and figures/name.txt."""
        folder = self.run_dir / "figures"
        folder.mkdir(exist_ok=True)
        lines = [printable(line) for line in lines]
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))
        self.writer.add_text(
            f"{FIGURES}/{name}", "\n".join(f"    {line}" for line in lines), step
        )  # indented: no Markdown

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """Write a histogram to TensorBoard."""
        self.writer.add_histogram(f"{FIGURES}/{name}", values, step)

    def embedding(self, codes: Tensor, labels: list[str] | None, sprites: Tensor | None, tag: str = "codes") -> None:
        """Write codes (N, K), optionally with labels and sprite images (N, C, H, W), for TensorBoard's projector.

        Embeddings of other tags are kept; torch's writer would drop those of earlier writers, and begin an event file.
        """
        from google.protobuf import text_format
        from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

        path, kept = self.run_dir / "projector_config.pbtxt", ProjectorConfig()
        if path.exists():
            with contextlib.suppress(text_format.ParseError):  # a damaged file is replaced
                old = text_format.Parse(path.read_text(), ProjectorConfig())
                kept.embeddings.extend(e for e in old.embeddings if not e.tensor_name.startswith(f"{tag}:"))
        if labels is not None:  # a line each
            labels = [" ".join(label.split()) for label in labels]
        with tempfile.TemporaryDirectory(prefix=".projector.", dir=self.run_dir) as temporary:
            writer, metadata = _summary_writer(Path(temporary)), labels and [*map(printable, labels)]
            writer._projector_config = kept
            writer.add_embedding(codes, metadata=metadata, label_img=sprites, tag=tag, global_step=0)
            writer.close()
            shutil.rmtree(self.run_dir / PROJECTOR / tag, ignore_errors=True)
            shutil.copytree(Path(temporary, PROJECTOR), self.run_dir / PROJECTOR, dirs_exist_ok=True)
            os.replace(Path(temporary, path.name), path)

    def hparams(self, config: Mapping[str, Any], results: list[str]) -> None:
        """Write settings and the tags of result metrics to the hparams tab.

        `SummaryWriter.add_hparams` would write them as a separate run.
        """
        from torch.utils.tensorboard.summary import hparams

        params = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in config.items()}
        file_writer = self.writer._get_file_writer()
        for summary in hparams(params, dict.fromkeys(results, 0.0)):
            file_writer.add_summary(summary)

    def close(self, state: str = FINISHED) -> None:
        """Flush and close the files; tell services the state of the run."""
        if "writer" in vars(self):
            self.writer.close()
        self.services.each(lambda service: service.close(state))


class Silence(Tracker):
    """Writes nothing: the tracker of all processes of a run but the first."""

    def __init__(self) -> None:
        """Open no file."""

    def written(self) -> dict[str, int]:
        """Return no sizes."""
        return {}

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """Write nothing."""

    def evaluation(self, split: str, step: int, epoch: float, values: Mapping[str, float | list[float]]) -> None:
        """Write nothing."""


def _summary_writer(folder: Path, **options: Any) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # takes half a second

    return SummaryWriter(str(folder), **options)


def _value_of(line: str, key: str, default: Any = None) -> Any:
    try:
        return json.loads(line)[key]
    except (ValueError, KeyError, TypeError):  # a kill cut the line off
        return default


def varying(latent: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of the code without those that stay as they are: its size, and the zeros of a dense code."""
    fixed = {"dim"} if latent.get("zeros", 0.0) > SPARSE else {"dim", "zeros", "mean_active", "dead_units"}
    return {name: value for name, value in latent.items() if name not in fixed}


QUIET, REFRESH = 60.0, 1.0  # seconds


class Progression:
    """Progress display: a live line and a line for each evaluation.

    Without a terminal, only the latter, and a line after every minute without one.

    Args:
        quiet: show and log nothing.
        shown: show on the console, not only log.
    """

    prefix: ClassVar[str] = ""  # of each line on the console: the job, where several train at once
    sweep: ClassVar[Callable[[float], str]] = staticmethod(lambda age: "")  # how far the sweep is, at most so long ago

    def __init__(self, total_steps: int, quiet: bool = False, shown: bool = True):
        self.quiet = quiet
        silent = quiet or not shown
        self.console = Console(highlight=False, soft_wrap=True, markup=False, quiet=silent)  # texts may have brackets
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[sweep]}"),
            console=self.console,
            transient=True,
            disable=self.console.quiet or bool(self.prefix) or not self.console.is_terminal,
        )
        self.task = self.progress.add_task("", total=total_steps, epoch=1, numbers="", sweep="")
        self.total, self.shown = total_steps, time.monotonic()

    def __enter__(self) -> Progression:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def update(self, step: int, epoch: int, numbers: Mapping[str, float], rate: float) -> None:
        """Update the live line."""
        text = "  ".join(f"{k} {v:.4g}" for k, v in list(numbers.items())[:4])
        sweep = "" if self.progress.disable else Progression.sweep(REFRESH)
        self.progress.update(self.task, completed=step, epoch=epoch, numbers=f"{text}  {rate:,.0f} ex/s", sweep=sweep)
        if not self.console.is_terminal and time.monotonic() - self.shown > QUIET:
            self.shown = time.monotonic()
            self.console.print(
                f"{self.prefix}epoch {epoch:>3}  step {step:>6} of {self.total}  {text}  {rate:,.0f} ex/s"
            )

    def line(self, text: str) -> None:
        """Print a line, and write it to train.log."""
        self.shown = time.monotonic()
        if not self.quiet:
            log.info(text)
        self.show(printable(f"{self.prefix}{text}"))

    def show(self, lines: Table | str) -> None:
        """Print without a line in train.log."""
        if self.prefix and self.console.is_terminal:
            self.console.file.write(CLEAR)
        self.console.print(lines)
