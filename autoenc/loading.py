"""A finished run, read back and put to work."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from autoenc import build
from autoenc.config.stored import read_config
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import Data, DataSpec, Preprocessing, Split
from autoenc.data.kinds import preprocessing
from autoenc.errors import DataError, UserError
from autoenc.training import checkpoint
from autoenc.training.evaluation import judging
from autoenc.training.rundir import FORMAT, newest_below, read_record, read_spec

if TYPE_CHECKING:
    from autoenc.transformer import CodeTransformer

Array = TypeVar("Array", np.ndarray, Tensor)
DARK = 0.25  # images of which nothing is brighter have another range than 0 to 255, most likely
OUTSIDE = 0.01  # more values than this outside the range of the training data are worth a warning


class Run:
    """A trained model with what is needed to use it.

    Arrays go in as NumPy arrays or tensors, and come out as what went in: float32, on the CPU. Everything is
    computed from the deterministic code: the same twice, whatever the batch an example is in.

    Attributes:
        model: with the weights of the best validation number, in evaluation mode.
        config: resolved and checked. spec: what one example of the data is. record: run.json.
        preprocessing: what new data pass through, where they are not fed as they are.
    """

    def __init__(
        self,
        path: Path,
        model: Autoencoder,
        config: dict[str, Any],
        spec: DataSpec,
        record: dict[str, Any],
        device: torch.device,
        data: Data | None = None,
        preprocessing: Preprocessing | None = None,
    ):
        self.path, self.config, self.spec, self.record, self.device = path, config, spec, record, device
        self.preprocessing = preprocessing
        self.model = model.to(device).eval()
        self.batch_size: int = config["trainer"]["eval_batch_size"]
        if data is not None:
            self.data = data

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.name} on {self.spec.name}, {self.latent_dim} numbers>"

    @cached_property
    def data(self) -> Data:
        """The data set that the run was trained on, split as it was then."""
        return build.build_data(self.config, self.preprocessing)

    @property
    def name(self) -> str:
        """The chosen model, for titles: vae, dae ..."""
        return self.record.get("choices", {}).get("model", "model")

    @property
    def latent_dim(self) -> int:
        """K, the size of the code."""
        return self.config["model"]["latent_dim"]

    def encode(self, x: Array) -> Array:
        """The deterministic codes: (N, *shape) -> (N, K)."""
        return self._apply(x, lambda batch: self.model.encode(batch).mean.flatten(1))

    def decode(self, z: Array) -> Array:
        """What codes stand for, in data space: (N, K) -> (N, *shape)."""
        codes = torch.as_tensor(np.asarray(z) if not isinstance(z, Tensor) else z).float()
        if codes.dim() != 2 or codes.shape[1] != self.latent_dim:
            raise DataError(f"codes: expected (N, {self.latent_dim}), found {tuple(codes.shape)}")
        parts = [self._expected(part.to(self.device)).cpu() for part in codes.split(self.batch_size)]
        return _like(torch.cat(parts) if parts else codes.new_empty(0, *self.spec.shape), z)

    def reconstruct(self, x: Array) -> Array:
        """What the model makes of the examples, in data space: (N, *shape) -> (N, *shape)."""
        return self._apply(x, self.model.reconstruct)

    @torch.no_grad()
    def prior_sample(self, n: int, seed: int = 0) -> Tensor | None:
        """(n, *latent) draws from p(z) that depend on the seed alone; None where the bottleneck has no prior."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.model.bottleneck.prior_sample(n)

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """(n, *shape) means of p(x|z) for z drawn from the prior.

        Raises:
            UserError: the code is deterministic, it has no prior. `autoenc.apps.generation.generate` fits one.
        """
        z = self.prior_sample(n, seed)
        if z is None:
            kind = type(self.model.bottleneck).__name__
            raise UserError(
                f"{self.path}: the code of a {kind} bottleneck has no prior to sample from; "
                "scripts/generate.py --density gaussian fits a density to the codes"
            )
        return self.decode(z.cpu().numpy())

    def __deepcopy__(self, memo: object) -> Run:
        """Itself: a run is only read, and scikit-learn copies what estimators hold."""
        return self

    def as_transformer(self) -> CodeTransformer:
        """The encoder as a scikit-learn transformer: transform encodes, inverse_transform decodes."""
        from autoenc.transformer import CodeTransformer

        return CodeTransformer(self)

    def over(self, split: Split, function: Callable[[Batch], Tensor], batch_size: int | None = None) -> Tensor:
        """`function` of every batch of a split, joined: (N, ...) on the CPU. Evaluation's seed holds within."""
        batches = replace(split, device=self.device).in_order(batch_size or self.batch_size)
        with judging(self.model, self.device), torch.no_grad():
            return torch.cat([function(batch).cpu() for batch in batches])

    def codes(self, split: Split) -> np.ndarray:
        """(N, K) deterministic codes of a split."""
        return self.over(split, lambda batch: self.model.encode(batch).mean.flatten(1).float()).numpy()

    def inputs(self, x: Any, what: str = "input", noisy: bool = False) -> Split:
        """New examples as the model takes them, checked against what it was trained on.

        Args:
            x: (N, *shape). Images also as (N, H, W) where they are grey, (N, H, W, C), or flat (N, C H W). uint8 is
                scaled by 1/255, everything else is taken as it is. Where the run has preprocessing, arrays and
                tensors are as the model is fed; a data frame, or a list of texts, passes through it.
            what: named in errors: the file that they are from.
            noisy: values may lie outside the range of clean data.

        Raises:
            DataError: another shape, no numbers, values that are not finite or that the model gives no density.
        """
        raw = not isinstance(x, Tensor) and not (isinstance(x, np.ndarray) and x.dtype.kind in "biuf")
        if self.preprocessing is not None and raw:
            return self.preprocessing.apply(x)
        if isinstance(x, Tensor):
            tensor = x.detach().cpu()
        else:
            array = np.asarray(x)
            if array.dtype.kind not in "biuf":
                raise DataError(f"{what}: expected numbers, found {array.dtype}")
            tensor = torch.from_numpy(np.ascontiguousarray(array if array.dtype.kind != "u" else _signed(array)))
        tensor = self._shaped(tensor, what)
        if len(tensor) == 0:
            raise DataError(f"{what}: has no rows")
        if self.spec.kind == "tokens":
            return self._checked_ids(tensor, what)
        split = Split(tensor, scale=1 / 255) if tensor.dtype == torch.uint8 else Split(tensor.float())
        self._check_values(split, what, noisy)
        return split

    def _checked_ids(self, x: Tensor, what: str) -> Split:
        if x.is_floating_point() or int(x.min()) < 0 or int(x.max()) >= self.spec.vocabulary:
            raise DataError(f"{what}: expected token ids from 0 to {self.spec.vocabulary - 1}, or a list of texts")
        return Split(x.long())

    def _shaped(self, x: Tensor, what: str) -> Tensor:
        shape, found = self.spec.shape, tuple(x.shape)
        size = int(np.prod(shape))
        if found[1:] == shape or (self.spec.kind == "tokens" and len(found) == 2):
            return x
        if self.spec.kind == "image":
            c, h, w = shape
            if found[1:] == (h, w) and c == 1:
                return x.unsqueeze(1)
            if found[1:] == (h, w, c):
                return x.permute(0, 3, 1, 2).contiguous()
            if found[1:] == (size,):
                return x.unflatten(1, shape)
        wanted = ", ".join(map(str, shape))
        flat = f" or (N, {size})" if self.spec.kind == "image" else ""
        hint = "; for one example, x[None]" if found in (shape, shape[1:]) else ""
        raise DataError(f"{what}: expected shape (N, {wanted}){flat}, as {self.spec.name} has, found {found}{hint}")

    def _check_values(self, split: Split, what: str, noisy: bool) -> None:
        x = split.tensor
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            bad = (~torch.isfinite(x)).nonzero()
            raise DataError(f"{what}: {len(bad)} values are NaN or infinite, the first at {tuple(bad[0].tolist())}")
        lowest, highest = split.range()
        low, high = self.spec.low, self.spec.high
        width = high - low
        if noisy and low - 10 * width <= lowest and highest <= high + 10 * width:
            return
        allowed = self.model.likelihood.support()
        if self.spec.kind == "image" and (low, high) == (0.0, 1.0):
            allowed = (0.0, 1.0)
        if lowest < allowed[0] - 1e-6 or highest > allowed[1] + 1e-6:
            wanted = f"[{allowed[0]:g}, {allowed[1]:g}]"
            hint = ""
            if allowed == (0.0, 1.0) and lowest >= 0:
                hint = "; divide by 255" if 64 < highest <= 255 else "; divide by the largest value that there can be"
            raise DataError(f"{what}: expected values in {wanted}, found {lowest:.4g} to {highest:.4g}{hint}")
        if x.dtype == torch.uint8 and high == 1 and highest < DARK:
            warnings.warn(
                f"{what}: uint8 is read as 0 to 255, and the largest value is {x.max()}: if the values have another "
                "range, scale them to [0, 1] as floats",
                stacklevel=4,
            )
        part = float(((x * split.scale < low) | (x * split.scale > high)).float().mean())
        if part > OUTSIDE:
            warnings.warn(
                f"{what}: {part:.0%} of the values ({lowest:.4g} to {highest:.4g}) lie outside the range of the "
                f"training data, {low:.4g} to {high:.4g}; was it scaled in the same way?",
                stacklevel=4,
            )

    def _apply(self, x: Array, function: Callable[[Batch], Tensor]) -> Array:
        def found(batch: Batch) -> Tensor:
            made = function(batch)
            return made.float() if made.is_floating_point() else made  # token ids stay what they are

        return _like(self.over(self.inputs(x), found), x)

    @torch.no_grad()
    def _expected(self, z: Tensor) -> Tensor:
        return self.model.expected(z)


def _signed(array: np.ndarray) -> np.ndarray:
    """Unsigned integers beyond uint8 in a type that torch computes with."""
    return array if array.dtype == np.uint8 else array.astype(np.float32)


def _like(tensor: Tensor, x: Any) -> Any:
    return tensor if isinstance(x, Tensor) else tensor.numpy()


def load_run(path: str | Path, device: str = "auto") -> Run:
    """A finished run, ready for use on `device` (auto, cpu, cuda or mps).

    Runs nothing that the directory contains: checkpoints are tensors and plain values, and a `_target_` builds parts
    of this package or torch's optimizers and modules, nothing else.

    Raises:
        DataError: the path is no run, the run is not finished, of another version, or damaged.
    """
    path = Path(path)
    if not path.exists():
        near = newest_below(path.parent) if path.parent != Path() else ""
        raise DataError(f"{path}: no such directory{near}")
    if not (path / "run.json").exists():
        raise DataError(f"{path}: is no run directory (it has no run.json){newest_below(path)}")
    record = read_record(path)
    if (found := record.get("format", 1)) != FORMAT:
        version = record.get("versions", {}).get("autoenc", "unknown")
        raise DataError(f"{path}: was written by autoenc {version} in format {found}, this one reads format {FORMAT}")
    if record["state"] != "finished":
        raise DataError(
            f"{path}: the run is not finished ({record['state']}); go on with: python train.py resume={path}"
        )
    config, spec, chosen = read_config(path), read_spec(path), build.pick_device(device, "device")
    model = build.build_model(config, spec)
    weights = path / "checkpoints" / "best.pt"
    try:
        model.load_state_dict(checkpoint.load(weights, "cpu")["model"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{weights}: does not fit config.yaml ({_reason(error)})") from None
    return Run(path, model, config, spec, record, chosen, preprocessing=preprocessing.load(path))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else (lines or [type(error).__name__])[0]
