"""An autoregressive prior over the indices of discrete codes, fitted to a finished run and kept in it."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoenc.data.split import shuffled_indices
from autoenc.errors import DataError, UserError, one_line, require
from autoenc.loading import Run
from autoenc.networks.causal import CausalTransformer
from autoenc.screen import track
from autoenc.seeds import seeded
from autoenc.training import checkpoint
from autoenc.training.process import as_trained

FOLDER, FILE = "fit_prior", "weights.pt"
BATCH, LOGITS = 128, 2**24  # sequences and logits in memory at a time
LARGEST = {"hidden": 4_096, "layers": 64}
HEADS = 4
PATIENCE = 3  # epochs without improvement
SMOOTHING = (1.0, 0.1, 0.01, 0.001)  # counts that are added to each entry


@dataclass(frozen=True)
class Fitted:
    """A prior and its nats per example.

    Args:
        nats: split -> {uniform, independent, autoregressive} -> mean of -log p of the indices of an example.
        epochs: epochs until the best validation value, which is that of the model; 0 for codes of a single index.
    """

    model: CausalTransformer
    nats: dict[str, dict[str, float]]
    epochs: int


def indices(run: Run, name: str) -> Tensor:
    """Return the indices of the codes of a split, in raster order of positions, groups innermost: (N, T)."""
    bottleneck = run.model.bottleneck
    if bottleneck.symbols == 0:
        raise UserError(
            f"{run.path}: the code of a {type(bottleneck).__name__} bottleneck has no indices; fit_prior is for "
            "discrete codes, such as those of vqvae, fsq, rqvae and binary"
        )
    return run.over(getattr(run.data, name), lambda b: bottleneck.indices(run.model.encode(b)).reshape(len(b), -1))


def fit(run: Run, epochs: int = 20, hidden: int = 128, layers: int = 2, lr: float = 1e-3, seed: int = 0) -> Fitted:
    """Fit a prior to the codes of the training split; the epoch with the best validation value is kept.

    It starts as independent categorical distributions, the relative frequencies of each index, smoothed by the constant
    that is best on validation data. A code of a single index stays one. Precision and threads are those of the run's
    training.
    """
    require(hidden % HEADS == 0 and hidden >= HEADS, "--hidden", hidden, f"must be a multiple of {HEADS}")
    for key, value in (("hidden", hidden), ("layers", layers)):
        require(value <= LARGEST[key], f"--{key}", value, f"must be at most {LARGEST[key]}")
    require(lr > 0, "--lr", lr, "must be above 0")
    splits = {name: indices(run, name).to(run.device) for name in ("train", "val", "test")}
    bottleneck = run.model.bottleneck
    with as_trained(run.config, run.device) as precision:
        return fit_indices(splits, bottleneck.symbols, bottleneck.groups, epochs, hidden, layers, lr, seed, precision)


def fit_indices(
    splits: Mapping[str, Tensor],
    symbols: int,
    groups: int = 1,
    epochs: int = 20,
    hidden: int = 128,
    layers: int = 2,
    lr: float = 1e-3,
    seed: int = 0,
    precision: AbstractContextManager[Any] | None = None,
) -> Fitted:
    """Fit a prior to sequences (N, T) of a training split, chosen on val; see `fit`.

    Args:
        precision: context of the forward passes of training.
    """
    precision = precision or nullcontext()
    train = splits["train"]
    length = train.shape[1]
    counts = torch.stack([torch.bincount(column, minlength=symbols) for column in train.T])  # (T, symbols)
    choices = [(counts + extra).double().log().log_softmax(-1).float() for extra in SMOOTHING]
    independent = min(choices, key=lambda log_p: _independent(log_p, splits["val"]))
    with seeded(seed, train.device):
        model = CausalTransformer(length, symbols, groups, hidden, layers).to(train.device)
        model.bias.data.copy_(independent)
        best, best_epoch, state = nats(model, splits["val"]), 0, copy.deepcopy(model.state_dict())
        optimizer = torch.optim.AdamW(model.parameters(), lr, fused=True)
        for epoch in track(range(1, epochs + 1 if length > 1 else 1), "fitting the prior, epochs"):
            model.train()
            for rows in shuffled_indices(len(train), _batch(model), seed, epoch, train.device):
                optimizer.zero_grad()
                with precision:
                    loss = -model.log_prob(train[rows]).mean() / length
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            if (found := nats(model, splits["val"])) < best:
                best, best_epoch, state = found, epoch, copy.deepcopy(model.state_dict())
            elif epoch - best_epoch >= PATIENCE:
                break
    model.load_state_dict(state)
    numbers = {
        name: {
            "uniform": length * math.log(symbols),
            "independent": _independent(independent, splits[name]),
            "autoregressive": nats(model, splits[name]),
        }
        for name in ("val", "test")
    }
    return Fitted(model.eval(), numbers, best_epoch)


@torch.no_grad()
def nats(model: CausalTransformer, index: Tensor) -> float:
    """Return the mean of -log p of sequences (N, T)."""
    model.eval()
    return -float(torch.cat([model.log_prob(part) for part in index.split(_batch(model))]).double().mean())


def sample(model: CausalTransformer, n: int, temperature: float = 1.0) -> Iterator[Tensor]:
    """Yield n sequences (<= 500, T)."""
    for start in range(0, n, 500):
        yield model.sample(min(500, n - start), temperature)


def save(fitted: Fitted, run: Run, path: Path) -> None:
    """Write the prior: tensors and plain values."""
    model = fitted.model
    sizes = {"hidden": model.norm.weight.numel(), "layers": len(model.blocks)}
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    checkpoint.save(path, {"model": state, "sizes": sizes, "codes": codes_of(run)})


def load(run: Run) -> CausalTransformer | None:
    """Return the prior in the run directory; None if there is none.

    Raises:
        DataError: it is damaged, or was fitted to other codes.
    """
    path, bottleneck = run.path / FOLDER / FILE, run.model.bottleneck
    if bottleneck.symbols == 0 or not path.exists():
        return None
    state = checkpoint.load(path)
    again = f"fit it again: python scripts/fit_prior.py {run.path} --force"
    if state.get("codes") != codes_of(run):
        raise DataError(f"{path}: was fitted to other codes than those of the run; {again}")
    try:
        sizes: Mapping[str, Any] = state["sizes"]
        if not all(type(sizes[key]) is int and 0 < sizes[key] <= most for key, most in LARGEST.items()):
            raise ValueError("sizes out of range")
        length = math.prod(bottleneck.index_shape)
        model = CausalTransformer(length, bottleneck.symbols, bottleneck.groups, sizes["hidden"], sizes["layers"])
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise DataError(f"{path}: damaged ({one_line(error)}); {again}") from None
    return model.to(run.device).eval()


def codes_of(run: Run) -> str:
    """Return a checksum of the weights that codes depend on."""
    digest = hashlib.sha256()
    for part in (run.model.encoder, run.model.bottleneck):
        for name, value in part.state_dict().items():
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _independent(log_p: Tensor, index: Tensor) -> float:
    """Return the mean of -log p of sequences (N, T) of independent indices with log p (T, symbols)."""
    return -float(log_p.double().expand(len(index), -1, -1).gather(2, index[..., None]).sum((1, 2)).mean())


def _batch(model: CausalTransformer) -> int:
    return max(1, min(BATCH, LOGITS // model.bias.numel()))
