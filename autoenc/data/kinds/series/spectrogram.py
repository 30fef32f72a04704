"""Spectrograms of windows of recordings, as images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from autoenc.canvas import picture_grid
from autoenc.data.kinds.denoising import Denoising
from autoenc.data.kinds.denoising.images import Images
from autoenc.data.kinds.kind import Kind, squared_errors
from autoenc.data.kinds.observed import Gaps
from autoenc.data.kinds.raw import Raw
from autoenc.data.kinds.series.channels import QUARTILES, Scaling
from autoenc.data.kinds.series.figures import SHOWN, spectrograms
from autoenc.data.kinds.series.series import Series
from autoenc.data.kinds.series.spectra import Spectra
from autoenc.data.split import Split
from autoenc.data.storage.windows import Axis
from autoenc.errors import DataError

BYTES = 2**26  # of the spectrograms that the scaling is learnt from
LEVELS = "spectrograms do not tell the values of a recording; train without data.view"
LEAST = 1e-3  # dB; a row that varies less is constant

Rows = tuple[tuple[float, ...], ...]  # (C, F)


@dataclass(frozen=True)
class Spectrogram(Series):
    """Spectrograms (C, F, T) of windows of recordings: C channels, F frequencies, the highest first, T frames.

    x = (max(L, floor) - center) / scale, L the level in dB of each frequency and frame.

    Args:
        steps: W of a window.
        spectra: how levels follow from a window.
        floor: smallest level in dB. center, scale: in dB, one for each channel and frequency.
    """

    steps: int = 0
    spectra: Spectra = field(default_factory=Spectra)
    floor: float = 0.0
    center: Rows = ()
    scale: Rows = ()

    name: ClassVar[str] = "spectrogram"
    noun: ClassVar[str] = "spectrograms of windows of recordings"
    images: ClassVar[bool] = True
    one_unit: ClassVar[bool] = True
    keep: ClassVar[int] = 2**28
    score: ClassVar[str] = "local"  # as for images, and for digits left out of spoken ones, on validation takes
    drawn: ClassVar[bool] = False  # as for images
    drawn_steps: ClassVar[str] = "mean level [dB]"

    @property
    def window(self) -> int:
        return self.steps

    @property
    def top(self) -> float:
        """The largest level of the training windows in dB."""
        return self.floor + self.spectra.range

    def forward(self, x: Tensor) -> Tensor:
        levels = self.spectra.levels(self.channels.forward(x)).clamp(min=self.floor)
        return (levels - torch.tensor(self.center)[..., None]) / torch.tensor(self.scale)[..., None]

    def levels(self, x: Tensor) -> Tensor:
        """Return levels in dB: (N, C, F, T) as the model is fed them -> the same shape."""
        return x.cpu().float() * torch.tensor(self.scale)[..., None] + torch.tensor(self.center)[..., None]

    @property
    def dependent(self) -> bool:
        return self.stride < self.window

    def representative(self, size: int, most: int) -> np.ndarray | None:
        return super().representative(size, most) if self.timed else None

    @property
    def timed(self) -> bool:
        """Whether windows overlap and none is padded; otherwise each is an example by itself, such as a word."""
        return self.dependent and self.format.short not in ("zeros", "last")

    def step_errors(self, error: Tensor) -> Tensor:
        """Return root mean squares over the frequencies of frames: (N, C, F, T) -> (N, C, W)."""
        return self._of_nearest_frames(error.square().mean(2).sqrt())

    def step_values(self, x: Tensor) -> Tensor:
        """Return means of levels over the frequencies of frames, in dB: (N, C, F, T) -> (N, C, W)."""
        return self._of_nearest_frames(self.levels(x).mean(2))

    def _of_nearest_frames(self, values: Tensor) -> Tensor:
        """Return for each step the value of the frame whose middle is nearest: (N, C, T) -> (N, C, W)."""
        steps = torch.arange(self.window, device=values.device)
        nearest = (steps + (self.spectra.hop - self.spectra.fft) // 2).div(self.spectra.hop, rounding_mode="floor")
        return values[..., nearest.clamp(0, values.shape[-1] - 1)]

    @property
    def denoising(self) -> Denoising:
        return Images(self.low, self.high)

    def restored(self, split: Split, x: Tensor) -> tuple[list[str], list[list[str]]]:
        raise DataError(LEVELS)

    def gaps(self, path: Path) -> dict[Path, Gaps]:
        raise DataError(LEVELS)

    # Back

    def decode(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Return levels in dB: (N, C, F, T)."""
        return self.levels(torch.as_tensor(np.asarray(x))).numpy()

    def listing(self, x: Tensor) -> None:
        return None

    def tiles(self, x: Tensor) -> Tensor:
        return ((self.levels(x) - self.floor) / self.spectra.range).clamp(0, 1)

    def show(self, versions: Mapping[str, Tensor]) -> np.ndarray:
        """Draw the first spectrograms of all versions: a column for each, a row for each version."""
        count, errors = min(SHOWN, len(next(iter(versions.values())))), squared_errors(versions)
        titles = [f"example {i}" + (f", mse {errors[i]:.2g}" if errors else "") for i in range(count)]
        drawn = {name: self.levels(x[:count]).mean(1).numpy() for name, x in versions.items()}
        return spectrograms(drawn, titles, self.spectra, self.floor, self.top)

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> np.ndarray:
        return picture_grid(self.levels(x), min(columns, len(x)), self.floor, self.top, list(labels) or None)

    def ranked(
        self, x: Tensor, captions: Sequence[str], texts: Sequence[str], colors: Sequence[str | None]
    ) -> np.ndarray:
        """Draw a row of spectrograms for each query; hits that are not known are blank."""
        across, levels = len(x) // len(captions), self.levels(x).nan_to_num(self.floor)
        return picture_grid(levels, across, self.floor, self.top, list(captions), list(texts), list(colors))

    # Export

    def raw(self) -> Raw:
        return Kind.raw(self)  # spectrograms are computed by the caller, as images are

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        return Kind.raw_rows(self, x)

    # Files

    def state(self) -> dict[str, Any]:
        return super().state() | {"steps": self.steps, "spectra": asdict(self.spectra), "floor": self.floor,
                                  "center": self.center, "scale": self.scale}  # fmt: skip

    @classmethod
    def arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        return super().arguments(values) | {
            "steps": int(values["steps"]),
            "spectra": Spectra(**values["spectra"]),
            "floor": float(values["floor"]),
            "center": tuple(map(tuple, values["center"])),
            "scale": tuple(map(tuple, values["scale"])),
        }

    def description(self) -> dict[str, Any]:
        text = (
            "float32, (N, C, F, T), (max(L, floor) - center) / scale, L the level in dB of a frequency, the highest "
            "first, in a frame of a window, as in spectra"
        )
        return {"text": text, "channels": asdict(self.channels), "spectra": asdict(self.spectra), "floor": self.floor,
                "center": self.center, "scale": self.scale}  # fmt: skip


def learnt(series: Series, spectra: Spectra, axis: Axis, places: Tensor, scaling: Scaling) -> Spectrogram:
    """Return the kind of the spectrograms of windows, with the floor, location and scale of the windows at `places`.

    Args:
        series: the kind of the windows, with channels that are not scaled.

    Raises:
        ConfigError: mel bands that the rate does not allow.
    """
    count, spectra = series.shape[0], spectra.at(series.step)
    shape = (count, spectra.size, spectra.columns(series.window))
    plain = ((0.0,) * spectra.size,) * count, ((1.0,) * spectra.size,) * count
    own = {each.name: getattr(series, each.name) for each in fields(series)} | {"shape": shape}
    kind = Spectrogram(**own, steps=series.window, spectra=spectra, floor=-math.inf, center=plain[0], scale=plain[1])
    _, top = kind.windows(axis, places).range()
    kind = replace(kind, floor=(0.0 if spectra.relative else top) - spectra.range)
    if scaling == "none":
        return kind
    some = kind.windows(axis, places).sample(max(1, BYTES // (4 * math.prod(shape))))
    levels = some.tensor.permute(1, 2, 0, 3).flatten(2).double()  # (C, F, n)
    center, scale = levels.mean(2), levels.std(2, correction=0)
    if scaling == "robust":
        low, center, high = torch.from_numpy(np.quantile(levels.numpy(), (0.25, 0.5, 0.75), axis=2))
        scale = torch.where((high - low) / QUARTILES > LEAST, (high - low) / QUARTILES, scale)
    scale = torch.where(scale > LEAST, scale, 1.0)  # a frequency that is always below the floor
    return replace(kind, center=tuple(map(tuple, center.tolist())), scale=tuple(map(tuple, scale.tolist())))
