"""Autoencoders as scikit-learn estimators; `fit` uses the same config and training loop as train.py."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from autoenc import build
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split, hold_out
from autoenc.errors import ConfigError, NotFinite, UserError
from autoenc.estimators.inmemory import compose, train
from autoenc.loading import Run
from autoenc.transformer import value_errors

KEYS = {  # config key -> parameter that sets it
    "model": "model",
    "model.latent_dim": "latent_dim",
    "network": "network",
    "network.hidden": "hidden",
    "optimizer.lr": "learning_rate",
    "trainer.epochs": "epochs",
    "trainer.batch_size": "batch_size",
    "trainer.device": "device",
}
OURS = ["seed", "data", "resume", "hydra", "init_from", "tracking"]  # keys that `fit` sets or ignores
OURS += ["labels", "labels_seed", "anomaly_classes", "normal_classes"]  # rows have no labels


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Autoencoder that encodes rows (N, D) to codes (N, K) and decodes them.

    Parts, defaults and training are those of `python train.py data=arrays`, without files. A fraction of the rows is
    held out to choose the best weights. Codes are deterministic: the mean of the posterior, if there is one. Codes are
    float32; reconstructions are float64, in the units of X.

    Use processes (`n_jobs`), not threads, for a search: torch has one generator per process, so that concurrent fits in
    threads are not reproducible.

    Args:
        model: option of configs/model: ae, dae, vae, beta_vae, contractive, sparse, topk, linear ...
        latent_dim: size K of the code; None: the default of the model (256 for dae, sparse and topk).
        network: option of configs/network: mlp, linear, dictionary or conv; None: the default of the model.
        hidden: widths of the hidden layers from input to code, e.g. (128, 64); for conv, the width of its dense layer.
            None: the default of the network.
        learning_rate: None: the default of the optimizer and the model.
        epochs: number of passes over the training rows.
        batch_size: number of rows per step.
        overrides: other keys of the config, as on the command line: ["noise.std=0.5", "regularizer=[kl_warmup]"]. For a
            VAE, "likelihood.learned=true" balances reconstruction and KL automatically.
        scale: standardise each column, or all pixels jointly with `image_shape`; inverted by `inverse_transform`.
            Constant columns are only centred. Use False for likelihood=bernoulli, for example.
        image_shape: shape (C, H, W) or (H, W) of the image in each row, C H W = D; required by network="conv".
        val_fraction: fraction of the rows that is held out to choose the best weights.
        random_state: seed of weights, noise, order and held-out rows: an int, a RandomState, or None for a random seed.
            Torch's global generator is not affected.
        device: auto, cpu or cuda.
        verbose: show the progress of training.

    Attributes:
        model_: the trained `autoenc.core.Autoencoder`, for scaled rows. config_: its resolved config.
        spec_: description of the scaled training rows. mean_, scale_: offset and scale of the columns.
        history_: metrics of each evaluation, dicts with step, epoch, split (train or val), loss, mse ...
        n_features_in_, feature_names_in_: as in scikit-learn.

    Raises:
        ValueError: from `fit`: an invalid parameter or override, or training diverged.
    """

    def __init__(
        self,
        model: str = "dae",
        latent_dim: int | None = 16,
        *,
        network: str | None = None,
        hidden: Sequence[int] | int | None = None,
        learning_rate: float | None = None,
        epochs: int = 100,
        batch_size: int = 64,
        overrides: Sequence[str] = (),
        scale: bool = True,
        image_shape: Sequence[int] | None = None,
        val_fraction: float = 0.1,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
        verbose: bool = False,
    ):
        self.model = model
        self.latent_dim = latent_dim
        self.network = network
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.overrides = overrides
        self.scale = scale
        self.image_shape = image_shape
        self.val_fraction = val_fraction
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> AutoencoderTransformer:
        """Train on X (N, D); y is ignored."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        given = self.random_state
        seed = given if isinstance(given, Integral) else check_random_state(given).randint(np.iinfo(np.int32).max)
        with value_errors():
            config = compose(self._overrides(int(seed)))
            mean, scale, data = self._data(X, config["seed"])
            try:
                self.model_, self.history_ = train(config, data, self.verbose)
            except NotFinite as error:
                raise UserError(f"{error}; try a smaller learning_rate, or overrides=['trainer.clip=1']") from None
        self.config_, self.spec_, self.mean_, self.scale_ = config, data.spec, mean, scale
        self._n_features_out = math.prod(self.model_.bottleneck.latent_shape)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode X (N, D) to deterministic codes (N, K)."""
        return self._encode(self._rows(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes (N, K) to rows (N, D), in the units of the training data."""
        check_is_fitted(self, "model_")
        with value_errors():
            return self._decode(check_array(X, dtype=np.float32))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the negative mean squared reconstruction error of X (N, D), in its units; y is ignored."""
        X = self._rows(X)
        return -float(np.mean((X - self._decode(self._encode(X))) ** 2))

    def _rows(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "model_")
        return validate_data(self, X, reset=False, dtype=[np.float64, np.float32])

    def _encode(self, X: np.ndarray) -> np.ndarray:
        with value_errors():
            return self._run().codes(_scaled(X, self.mean_, self.scale_, self.spec_.shape))

    def _decode(self, z: np.ndarray) -> np.ndarray:
        rows = self._run().decode(z)
        return rows.reshape(len(rows), -1).astype(np.float64) * self.scale_ + self.mean_

    def _run(self) -> Run:
        """Return the model as a run on the selected device."""
        return Run(Path(), self.model_, self.config_, self.spec_, {}, build.pick_device(self.device, "device"))

    def _overrides(self, seed: int) -> list[str]:
        """Return the parameters and `overrides` as on the command line."""
        if isinstance(self.overrides, str) or not all(isinstance(override, str) for override in self.overrides):
            raise UserError(f"overrides: must be a list of 'KEY=VALUE', found {self.overrides!r}")
        named = {key: value for key, name in KEYS.items() if (value := getattr(self, name)) is not None}
        for override in self.overrides:
            key = override.lstrip("+~").partition("=")[0]
            if key in named:
                raise UserError(f"overrides: {override}: set the parameter {KEYS[key]} instead")
            if key.partition(".")[0] in OURS:
                why = "is not supported; data are passed to fit, the seed is random_state"
                raise UserError(f"overrides: {override}: {why}")
        if isinstance(self.hidden, Iterable):
            named["network.hidden"] = f"[{','.join(map(str, self.hidden))}]"
        settings = {"data": "arrays", "seed": seed} | named
        return [*(f"{key}={value}" for key, value in settings.items()), *self.overrides]

    def _data(self, X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, Data]:
        """Return offset and scale of the training rows, and the scaled training and held-out rows."""
        shape, mean, scale = self._shape(X.shape[1]), np.zeros(1), np.ones(1)
        rows = hold_out(Split(torch.arange(len(X))), self.val_fraction, seed, "val_fraction")
        parts = [X[split.tensor.numpy()] for split in rows]
        if self.scale:
            scaler = StandardScaler().fit(parts[0] if self.image_shape is None else parts[0].reshape(-1, 1))
            mean, scale = scaler.mean_, scaler.scale_
        train, val = (_scaled(part, mean, scale, shape) for part in parts)
        low, high = train.range()
        name = "X, standardised," if self.scale else "X"
        spec = DataSpec(name, (Vector if self.image_shape is None else Image)(shape, low, high))
        return mean, scale, Data(spec, train, val, test=val)

    def _shape(self, columns: int) -> tuple[int, ...]:
        if self.image_shape is None:
            return (columns,)
        shape = tuple(self.image_shape)
        shape = (1, *shape) if len(shape) == 2 else shape
        if len(shape) != 3 or math.prod(shape) != columns:
            why = f"must be (C, H, W) or (H, W) with {columns} values: X has {columns} columns"
            raise ConfigError("image_shape", self.image_shape, why)
        return shape

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with weights on the CPU, so that it can be loaded without a GPU."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = copy.deepcopy(self.model_).cpu()
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _scaled(X: np.ndarray, mean: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]) -> Split:
    """Return rows as the model is fed them; ValueError if they are too large for float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        rows = check_array((X - mean) / scale, dtype=np.float32, input_name="X")
    return Split(torch.from_numpy(rows).reshape(-1, *shape))
