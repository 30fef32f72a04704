"""Loading and use of finished runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from autoenc import build
from autoenc.config.stored import read_config
from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.data.dataset import Data, DataSpec, class_numbers
from autoenc.data.split import Split
from autoenc.errors import DataError, UserError, one_line
from autoenc.files import check_inside, read_json
from autoenc.objective import Objective
from autoenc.run_data import RunData
from autoenc.seeds import derived, seeded
from autoenc.training import checkpoint
from autoenc.training.evaluation import over
from autoenc.training.rundir import FORMAT, check_run, find_run, read_record, read_spec

if TYPE_CHECKING:
    from autoenc.transformer import CodeTransformer

Array = TypeVar("Array", np.ndarray, Tensor)


class Run(RunData):
    """A trained model and its data description, for use.

    Methods take NumPy arrays or tensors and return the same type: float32, on the CPU. All results are computed from
    the deterministic code and do not depend on the other examples of a batch. Conditional models need labels y: names
    of classes, or their numbers; a model that infers labels needs them to decode codes only.

    Attributes:
        model, objective: with the weights of the best validation value, in evaluation mode; objective is None for
            models that were trained in memory.
        config: resolved and checked. spec: the description of the data. record: run.json.
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
        objective: Objective | None = None,
        fingerprint: int | None = None,
        checksums: Mapping[str, int] | None = None,
    ):
        super().__init__(path, model.to(device).eval(), config, spec, device, fingerprint, checksums)
        self.record = record
        self.objective = objective if objective is None else objective.to(device).eval()
        if data is not None:
            self.data = data

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.name} on {self.spec.name}, {self.latent_dim} numbers>"

    @property
    def name(self) -> str:
        """Name of the model option, for titles: vae, dae, ..."""
        return self.record.get("choices", {}).get("model", "model")

    @cached_property
    def residual(self) -> Tensor:
        """Root mean squared error (*shape) of the reconstruction of the stored training rows.

        It is the scale of draws from likelihoods that learn none.
        """
        rows = self.reference.rows
        if len(rows) == 0:
            rows = self.reference_rows(1)

        def square(batch: Batch) -> Tensor:
            error, seen = (batch.x - self.model.reconstruct(batch)).square(), self.model.likelihood.observed(batch.x)
            return (error if seen is None else error.where(seen, torch.nan)).double()  # of cells that have a value

        return self.over(rows, square).nanmean(0).nan_to_num().sqrt().float().to(self.device)

    @property
    def verdict(self) -> str:
        """What training ended with on the use of the code; empty if summary.json cannot be read."""
        try:
            return str(read_json(self.path / "summary.json")["verdict"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def conditional(self) -> bool:
        """Whether encoder and decoder are conditioned on labels."""
        return self.model.condition is not None

    @property
    def given_labels(self) -> bool:
        """Whether codes are computed from the labels of their rows, so that they predict these labels."""
        return self.model.condition is not None and not self.model.condition.inferred

    def labels(self, y: Any, n: int) -> Tensor | None:
        """Return labels (N,), names or numbers of classes, as int64; None for None.

        Raises:
            UserError: a model without a condition, an unknown class, or another number than n.
        """
        if y is None:
            return None
        if not self.conditional:
            raise UserError(f"{self.path}: takes no labels, as it is not conditional; model=cvae is")
        values = np.asarray(y.cpu() if isinstance(y, Tensor) else y)
        if values.shape != (n,):
            raise UserError(f"y: expected {n} labels, one for each row, found shape {values.shape}")
        if values.dtype.kind in "US":
            return torch.tensor(class_numbers(self.spec, values.tolist(), "y"))
        if values.dtype.kind not in "iu" or (n and not 0 <= values.min() <= values.max() < len(self.spec.classes)):
            raise UserError(f"y: expected names of classes, or numbers from 0 to {len(self.spec.classes) - 1}")
        return torch.from_numpy(values.astype(np.int64))

    def draw_labels(self, n: int, seed: int = 0) -> Tensor | None:
        """Draw labels (n,) with the frequencies of the reference rows; None if the model is not conditional."""
        if not self.conditional:
            return None
        y = self.reference.labels
        known = np.arange(len(self.spec.classes)) if y is None else y[y != UNLABELLED]
        return torch.from_numpy(np.random.default_rng(derived(seed)).choice(known, n))

    def encode(self, x: Array, y: Any = None) -> Array:
        """Return deterministic codes: (N, *shape) -> (N, K)."""
        return self._apply(x, y, lambda batch: self.model.encode(batch).mean.flatten(1))

    def decode(self, z: Array, y: Any = None) -> Array:
        """Decode codes, after `project`, to data space: (N, K) -> (N, *shape)."""
        codes = torch.as_tensor(np.asarray(z) if not isinstance(z, Tensor) else z).float()
        if codes.dim() != 2 or codes.shape[1] != self.latent_dim:
            raise DataError(f"codes: expected (N, {self.latent_dim}), found {tuple(codes.shape)}")
        parts = [self._expected(*part).cpu() for part in batches(codes, self.labels(y, len(codes)), self.batch_size)]
        return _like(torch.cat(parts) if parts else codes.new_empty(0, *self.spec.shape), z)

    @torch.no_grad()
    def decoded(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the parameters of p(x|z) for codes (N, K), after `project`: (N, *shape) on the run's device."""
        return self.model.decode(self._shaped_codes(z), y=None if y is None else y.to(self.device))

    def project(self, z: np.ndarray) -> np.ndarray:
        """Return the nearest valid codes, (N, K) -> (N, K) float32; see `Bottleneck.project`."""
        return self.over_codes(z, lambda codes: self.model.bottleneck.project(codes).flatten(1)).numpy()

    @torch.no_grad()
    def over_codes(self, z: np.ndarray, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply a function of codes (B, *latent_shape) to the rows (N, K) in batches: (N, ...) on the CPU."""
        parts = torch.from_numpy(z).float().split(self.batch_size)
        shape = self.model.bottleneck.latent_shape
        return torch.cat([function(part.to(self.device).unflatten(1, shape)).cpu() for part in parts])

    def _shaped_codes(self, z: Tensor) -> Tensor:
        """Return projected codes in their shape, on the device: (N, K) -> (N, *latent_shape)."""
        bottleneck = self.model.bottleneck
        return bottleneck.project(z.to(self.device).unflatten(1, bottleneck.latent_shape))

    def reconstruct(self, x: Array, y: Any = None) -> Array:
        """Return reconstructions in data space: (N, *shape) -> (N, *shape)."""
        return self._apply(x, y, self.model.reconstruct)

    @torch.no_grad()
    def prior_sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> Tensor | None:
        """Draw codes (n, *latent_shape) from p(z), determined by the seed; None if there is no prior."""
        with seeded(seed, self.device):
            return self.model.bottleneck.sample(n, temperature)

    def sample(self, n: int, seed: int = 0, y: Any = None) -> np.ndarray:
        """Return means of p(x|z) for z drawn from the prior: (n, *shape); of a conditional model, of the classes y (n,)
        or of drawn ones.

        Raises:
            UserError: a deterministic code without a prior; `autoenc.apps.generation.density` fits one.
        """
        z = self.prior_sample(n, seed)
        if z is None:
            kind = type(self.model.bottleneck).__name__
            raise UserError(
                f"{self.path}: the code of a {kind} bottleneck has no prior to sample from; "
                "scripts/generate.py --density gaussian fits a density to the codes"
            )
        return self.decode(z.flatten(1).cpu().numpy(), self.draw_labels(n, seed) if y is None else y)

    def __deepcopy__(self, memo: object) -> Run:
        """Return the run itself: scikit-learn copies attributes of estimators, and a run is read only."""
        return self

    def as_transformer(self) -> CodeTransformer:
        """Return the encoder as a scikit-learn transformer: transform encodes, inverse_transform decodes."""
        from autoenc.transformer import CodeTransformer

        return CodeTransformer(self)

    def over(self, split: Split, function: Callable[[Batch], Tensor], batch_size: int | None = None) -> Tensor:
        """Return `function` of every batch of a split, joined: (N, ...) on the CPU, with evaluation's seed."""
        return over(self.model, split, function, batch_size or self.batch_size, self.device)

    def codes(self, split: Split) -> np.ndarray:
        """Return the deterministic codes of a split: (N, K)."""
        return self.over(split, lambda batch: self.model.encode(batch).mean.flatten(1).float()).numpy()

    def inputs(self, x: Any, what: str = "input", noisy: bool = False) -> Split:
        """Return new examples as the model is fed them, checked against the training data; see `Kind.encode`.

        Args:
            x: arrays, tensors, or other objects that the kind encodes: data frames, lists of texts, paths of images.
            what: the source, for messages.
            noisy: values may lie outside the range of clean data.

        Raises:
            DataError: another shape, no numbers, or values that are not finite or have no density.
        """
        return self.spec.kind.encode(x, what, noisy, self.model.likelihood.support())

    def _apply(self, x: Array, y: Any, function: Callable[[Batch], Tensor]) -> Array:
        def as_float(batch: Batch) -> Tensor:
            result = function(batch)
            return result.float() if result.is_floating_point() else result  # token ids stay integers

        split = self.inputs(x)
        return _like(self.over(replace(split, y=self.labels(y, len(split))), as_float), x)

    @torch.no_grad()
    def _expected(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.model.expected(self._shaped_codes(z), None if y is None else y.to(self.device))


def batches(z: Tensor, y: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield codes and their labels, if there are any, in batches."""
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        yield z[part], None if y is None else y[part]


def _like(tensor: Tensor, x: Any) -> Any:
    return tensor if isinstance(x, Tensor) else tensor.numpy()


def load_run(path: str | Path, device: str = "auto") -> Run:
    """Load a finished run for use on `device` (auto, cpu, cuda or mps); `latest` is the newest, see `find_run`.

    Executes nothing that the directory contains: checkpoints are tensors and plain values, and a `_target_` can only
    build parts of this package and torch's optimizers and modules.

    Raises:
        DataError: not a run, not finished, of another version, or damaged.
    """
    given, path = str(path), find_run(path)
    if str(path) != given and given.startswith("latest"):
        from autoenc.screen import console

        console().print(f"{given}: {path}", soft_wrap=True, markup=False, highlight=False)
    check_run(path)
    check_inside(path, links=True)
    record = read_record(path)
    if (written := record.get("format", 1)) != FORMAT:
        version = record.get("versions", {}).get("autoenc", "unknown")
        raise DataError(
            f"{path}: was written by autoenc {version} in format {written}; this version reads format {FORMAT}"
        )
    if record["state"] != "finished":
        raise DataError(
            f"{path}: the run is not finished ({record['state']}); resume with: python train.py resume={path}"
        )
    config = read_config(path)
    spec = read_spec(path, config["data"])
    try:
        model = build.build_model(config, spec)
        objective = build.build_objective(config, model, spec, total_steps=1, num_train=record["data"]["train"])
    except (MemoryError, RuntimeError, OverflowError) as error:
        raise DataError(f"{path}: its model cannot be built ({one_line(error)})") from None
    weights = path / "checkpoints" / "best.pt"
    best = checkpoint.load(weights, "cpu")
    try:
        checkpoint.restore_best(best, model, objective)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(f"{weights}: does not match config.yaml ({checkpoint.mismatch(error)})") from None
    if not isinstance(fingerprint := best.get("data"), int | None) or (fingerprint or 0) >> 32:
        raise DataError(f"{weights}: damaged (its fingerprint of the data is no checksum)")
    chosen = build.pick_device(device, "device")
    return Run(path, model, config, spec, record, chosen, None, objective, fingerprint, best.get("checksums"))
