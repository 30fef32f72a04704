"""The interface of a kind of data: the form of an example, the encoding of new data, and its display.

A kind is a frozen dataclass. Its state (means, categories, a vocabulary, the size of images) is fitted to the training
split and saved with the run. No other module branches on the kind: differences are methods or attributes here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.canvas import line_panels
from autoenc.core import Likelihood
from autoenc.data.kinds.denoising import Denoising
from autoenc.data.kinds.observed import Column, Completed, Gaps
from autoenc.data.kinds.raw import Raw, RawInput
from autoenc.data.readers.arrays import numbers_of_file, read_arrays, roles
from autoenc.data.readers.cells.class_names import MISSING, class_name, known_class
from autoenc.data.scaling import check_values, in_units
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError
from autoenc.files import write_json
from autoenc.metrics import mse_per_example

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FILE = "kind.json"
REAL = (-math.inf, math.inf)

Shown = np.ndarray | list[str]  # an (H, W, 3) uint8 figure, or lines of text


@dataclass(frozen=True)
class Kind:
    """What one example is. The base class is a vector of numbers.

    Args:
        shape: of an example as the model is fed it.
        low, high: the range of these values, by definition or observed in the training split.

    Attributes:
        name: the name in kind.json and run.json. noun: the plural noun in messages.
        continuous: whether values are real numbers, unlike token ids.
        images: whether examples are images (C, H, W). texts: whether examples are documents.
        one_unit: whether all dimensions have the same unit.
        encodes_objects: whether `encode` accepts objects beside arrays: data frames, texts, paths of images.
        named_dimensions: whether single dimensions are meaningful to the user, such as the columns of a table.
        normalize: default normalization of the input by a network; None: the default of the network.
        parts: config group -> option, for groups whose part must accept what `given` returns.
        score: the default score of rows.
        deep_white: default white value of uint16.
        drawn: whether generated examples are draws from p(x|z) by default, not its means.
        queries: how many queries `ranked` draws; 0: there is no such figure.
    """

    shape: tuple[int, ...]
    low: float
    high: float

    name: ClassVar[str] = ""
    noun: ClassVar[str] = "vectors"
    continuous: ClassVar[bool] = True
    images: ClassVar[bool] = False
    texts: ClassVar[bool] = False
    one_unit: ClassVar[bool] = False
    named_dimensions: ClassVar[bool] = False
    encodes_objects: ClassVar[bool] = False
    normalize: ClassVar[Literal["l2"] | None] = None
    parts: ClassVar[Mapping[str, str]] = {}
    score: ClassVar[str] = "combined"
    deep_white: ClassVar[float | None] = None
    drawn: ClassVar[bool] = True
    queries: ClassVar[int] = 0

    # New data

    def read(
        self,
        path: Path,
        resize: bool = False,
        noisy: bool = False,
        support: tuple[float, float] = REAL,
    ) -> Examples:
        """Read the examples of a file: .npy, .npz (the array x, or the only one) or a .csv of numbers.

        Args:
            resize: scale images to `shape`.
            noisy, support: as in `encode`.

        Raises:
            DataError: a missing or unreadable file, or data that differ from the training data.
        """
        split = self.encode(numbers_of_file(path), str(path), noisy, support)
        return Examples(split, [str(i) for i in range(1, len(split) + 1)])

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        """Return examples given in Python as the model is fed them.

        Args:
            raw: an array or a tensor (N, *shape), scaled as described in `units`.
            what: the source, for messages.
            noisy: values may lie outside the range of clean data.
            support: the range in which the likelihood has a density.

        Raises:
            DataError: another shape, no numbers, or values outside `support`.
        """
        split = self.units(raw, what, noisy)
        split = replace(split, x=self._shaped(split.tensor, what))
        if len(split) == 0:
            raise DataError(f"{what}: has no rows")
        self._check(split, what, noisy, support)
        return split

    @property
    def white_value(self) -> float | None:
        """The stored value that the model is fed as 1; None: 255 for uint8, and `deep_white` for uint16."""
        return None

    def units(self, raw: Any, what: str, noisy: bool = False) -> Split:
        """Return numbers of any shape in the units of the model.

        If the data lie in [0, 1], integers are divided by the white value. Floating-point numbers are divided by it if
        it is given and some exceed 1. Other data are taken as they are.

        Raises:
            DataError: values above the white value.
        """
        return in_units(raw, what, (self.low, self.high), self.white_value, self.deep_white, noisy)

    def anomalies(self, path: Path, options: Mapping[str, Any], left_out: Sequence[str] = ()) -> np.ndarray | None:
        """Return which examples of a file are not of the class `normal`, (N,) bool; those without a label are masked.

        None without labels, or for data sets without a class `normal` or classes that are left out.

        Args:
            options: of the data set that the run was trained on. left_out: classes that are anomalies, if it has no
                class `normal`.
        """
        if options.get("label") is None or (options.get("normal") is None and not left_out):
            return None
        normal = None if options.get("normal") is None else class_name(options["normal"]) or MISSING
        if (names := self.class_names(path, options["label"], normal)) is None:
            return None
        if normal is None:
            anomaly = np.array([known_class(name or "", left_out) in left_out for name in names])
        else:
            anomaly = np.array([known_class(name or normal, [normal]) != normal for name in names])
        missing = [name is None for name in names]
        return np.ma.array(anomaly, mask=missing) if any(missing) else anomaly

    def class_names(self, path: Path, label: str, normal: str | None) -> Sequence[str | None] | None:
        """Return the class of each example of a file, None where it is missing; None without such a column or array."""
        if path.suffix.lower() != ".npz" or (name := roles(path, label=label).get("y")) is None:
            return None
        return [class_name(value) for value in read_arrays(path, {name})[name].tolist()]

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """Return an image (C, H, W) uint8 of any size as it is fed, before it is cut into patches."""
        return image

    def remark(self, train: Split) -> str | None:
        """Return a warning about the training data, if there is reason for one."""
        return None

    # Decoding

    def decode(self, x: Tensor | np.ndarray) -> Any:
        """Return examples (N, *shape) in the user's terms."""
        return np.asarray(x)

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]] | None:
        """Return examples (N, *shape) as the header and the rows of a CSV file; None for images."""
        rows = x.flatten(1)
        return [f"x{i}" for i in range(rows.shape[1])], rows.tolist()

    def direction(self, atom: Tensor) -> str:
        """Return the largest entries of a direction (*shape) in data space, in words; empty if they have no names."""
        return ""

    def changes(self, gradient: Tensor, rows: Tensor) -> list[tuple[str, float]]:
        """Return changes of an example in words, and what each adds to a function of examples, to first order.

        Args:
            gradient: (*shape) of the function, the mean over training examples. rows: (N, *shape) of these examples.
        """
        header, _ = self.listing(rows[:1]) or ([], [])
        effects = (gradient * rows.std(0)).flatten().tolist()
        return [(f"{name} +1 std", effect) for name, effect in zip(header, effects, strict=True)]

    def cells(self, x: np.ndarray) -> dict[str, list[str]]:
        """Return rows (N, D) of a table as short texts: column -> (N,); empty for data without columns."""
        return {}

    def marginals(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the named dimensions of rows (N, D) in the user's units: column -> (N,).

        Numbers or dates, NaN or NaT where they are missing, or texts; empty if single dimensions are not meaningful.
        """
        if not self.named_dimensions:
            return {}
        return {f"x{i}": values for i, values in enumerate(np.asarray(self.decode(x)).T)}

    def captions(self, split: Split) -> list[str] | None:
        """Return a short text for each example, such as the beginning of a document; None where there is none."""
        return None

    def completed(self, path: Path, versions: Sequence[Tensor]) -> Completed | None:
        """Return the rows of a file with its missing cells replaced by those of examples (N, *shape), for each version.

        None for kinds without missing cells.
        """
        return None

    # Numbers

    def metrics(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> dict[str, Tensor]:
        """Return metrics of the reconstruction E[x|z]: name -> (B,)."""
        return self.distances(x, likelihood.mean(params))

    def distances(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """Return distances in data space, name -> (B,); empty if distances are not meaningful."""
        return {"mse": mse_per_example(x, x_hat)}

    def error(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
        """Return the reconstruction error that anomaly scores are based on: (B,), larger is worse."""
        return mse_per_example(x, likelihood.mean(params), likelihood.observed(x))

    def words(self, x: Tensor) -> Tensor | None:
        """Return the number of words of each example (B,); None where there are none."""
        return None

    def comparable(self, x: np.ndarray) -> np.ndarray:
        """Return rows (N, D) on a scale suitable for comparing generated and real examples."""
        return x

    def clip(self, x: np.ndarray) -> np.ndarray:
        """Return values clipped to the range that examples have by definition."""
        return x

    def lexical(self, train: Split, queries: Split) -> tuple[csr_matrix, csr_matrix] | None:
        """Return TF-IDF rows of two splits, each of length 1; None for data without words."""
        return None

    def features(self, train: Split, queries: Split) -> tuple[Any, Any] | None:
        """Return two splits as classical methods are fed them: rows (N, D), or sparse TF-IDF of texts.

        None where numbers of the examples mean nothing, as for token ids.
        """
        if (words := self.lexical(train, queries)) is not None:
            return words
        return (train.rows(), queries.rows()) if self.continuous else None

    def annotations(self, split: Split) -> dict[str, np.ndarray]:
        """Return numbers to report beside the scores of examples: name -> (N,)."""
        return {}

    def representative(self, size: int, most: int) -> np.ndarray | None:
        """Return the positions of at most `most` of `size` rows whose scores thresholds are drawn from; None: any."""
        return None

    @property
    def dependent(self) -> bool:
        """Whether examples depend on each other, as windows that share time steps do."""
        return False

    @property
    def timed(self) -> bool:
        """Whether examples are windows of recordings with C channels, whose W time steps have scores."""
        return False

    @property
    def detection(self) -> str:
        """The way to detect anomalies, a folder of apps/anomaly/."""
        return "steps" if self.timed else "rows"

    def step_errors(self, error: Tensor) -> Tensor:
        """Return the errors of windows (N, *shape) as errors of their time steps: (N, C, W)."""
        return error

    def step_values(self, x: Tensor) -> Tensor:
        """Return the numbers of windows (N, *shape) that are drawn over their time steps: (N, C, W)."""
        return x

    def per_step(self, split: Split, values: Tensor) -> Tensor:
        """Return values of windows (N, K, W), for each time step the mean over the windows that it is in: (S, K).

        Empty for data without a time axis.
        """
        return torch.empty(0, 0)

    @property
    def denoising(self) -> Denoising | None:
        """How examples are denoised; None for kinds that are not."""
        return None

    def gaps(self, path: Path) -> dict[Path, Gaps] | None:
        """Return for each file of examples on a time axis which of their values are missing; else None.

        Args:
            path: of a file, or of a folder of files.
        """
        return None

    def restored(self, split: Split, x: Tensor) -> tuple[list[str], list[list[str]]] | None:
        """Return header and rows of the user's file with the values of x (N, *shape) in place of those of its examples.

        None for kinds whose examples are files of their own.
        """
        return None

    # Sizes for the parts of a model

    def given(self) -> dict[str, Any]:
        """Return arguments for constructors of parts, by name."""
        return {}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a table; empty for other data."""
        return ()

    @property
    def outputs(self) -> int:
        """Numbers that a decoder returns for an example."""
        return math.prod(self.shape)

    def lengths(self, split: Split) -> Tensor | None:
        """Return the length (N,) of each example if sorting by length reduces padding, else None."""
        return None

    @property
    def bounded(self) -> bool:
        """Whether the range [low, high] is given by definition, not observed."""
        return False

    # Figures

    def tiles(self, x: Tensor) -> Tensor | None:
        """Return examples as images (N, C, H, W) with values in [0, 1]; None for other kinds."""
        return None

    def show(self, versions: Mapping[str, Tensor]) -> Shown:
        """Show the same examples (N, *shape) in several named versions, such as input and output."""
        count = min(4, len(next(iter(versions.values()))))
        panels = [{name: x[i].flatten().numpy() for name, x in versions.items()} for i in range(count)]
        errors = squared_errors(versions)
        return line_panels(
            panels, [f"example {i}" + (f", mse {errors[i]:.2g}" if errors else "") for i in range(count)]
        )

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> np.ndarray | None:
        """Draw examples in rows of `columns`; None for kinds that are listed as text (`listing`) instead."""
        rows = x.flatten(1).split(columns)
        panels = [{str(i): line.numpy() for i, line in enumerate(row)} for row in rows]
        return line_panels(panels, list(labels), gradient=True)

    def ranked(
        self, x: Tensor, captions: Sequence[str], texts: Sequence[str], colors: Sequence[str | None]
    ) -> np.ndarray:
        """Draw queries and their hits (N, *shape), those of each query after it; NaN where a hit is not known.

        Args:
            captions: of the queries. texts, colors: of queries and hits.
        """
        raise NotImplementedError

    # Files

    def state(self) -> dict[str, Any]:
        """Return the state, apart from shape, low and high, as plain values."""
        return {}

    def save(self, folder: Path) -> None:
        """Write kind.json into an existing folder: plain values, no code."""
        common = {"kind": self.name, "shape": list(self.shape), "low": self.low, "high": self.high}
        write_json(folder / FILE, common | self.state())

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Kind:
        """Return the kind that `save` wrote.

        Args:
            values: the contents of kind.json.

        Raises:
            KeyError, TypeError, ValueError: damaged files.
        """
        return cls(**common(values))

    def description(self) -> dict[str, Any]:
        """Return the description of the input for export.json."""
        text = f"float32, (N, {', '.join('CHW' if len(self.shape) == 3 else 'D' * len(self.shape))}), values as in "
        return {"text": f"{text}training: {self.low:.6g} to {self.high:.6g}; nothing is rescaled"}

    # Export

    def raw(self) -> Raw:
        """Return the preprocessing of raw rows as a module, which is exported with a detector."""
        return Raw(RawInput("x", "float32", self.shape, self.description()["text"]))

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        """Return raw rows like examples (N, *shape): as the model is fed them, and an array for each input of `raw`.

        The two are independent of each other, so that a difference of `raw` and `encode` is found.
        """
        return Split(x), [x.numpy()]

    def raw_whole(self) -> Raw:
        """Return the preprocessing of whole images of any size, which patches are cut from; see `prepared`."""
        raise NotImplementedError

    # Checks

    def _shaped(self, x: Tensor, what: str) -> Tensor:
        """Return x in the shape (N, *shape)."""
        if tuple(x.shape[1:]) == self.shape:
            return x
        raise self._other_shape(x, what)

    def _other_shape(self, x: Tensor, what: str, also: str = "") -> DataError:
        found, wanted = tuple(x.shape), ", ".join(map(str, self.shape))
        hint = "; for one example, x[None]" if found in (self.shape, self.shape[1:]) else ""
        return DataError(f"{what}: expected shape (N, {wanted}){also}, as in training, found {found}{hint}")

    def _check(self, split: Split, what: str, noisy: bool, support: tuple[float, float]) -> None:
        """Reject values that are not finite or outside `support`; warn of values outside the training range."""
        check_values(split, what, (self.low, self.high), support, self.bounded, noisy)


def common(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return shape, low and high of kind.json; KeyError, TypeError or ValueError if they are damaged."""
    return {
        "shape": tuple(int(n) for n in values["shape"]),
        "low": float("-inf") if values["low"] is None else float(values["low"]),
        "high": float("inf") if values["high"] is None else float(values["high"]),
    }


def squared_errors(versions: Mapping[str, Tensor]) -> list[float]:
    """Return the mean squared error of each `output` against its `input`; empty if one is missing."""
    if not {"input", "output"} <= versions.keys():
        return []
    return (versions["output"] - versions["input"]).float().square().flatten(1).mean(1).tolist()
