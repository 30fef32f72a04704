"""What a run starts from: values that the prior takes from the training rows, weights of another run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoenc.config.stored import read_config
from autoenc.core import Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import ConfigError, UserError, one_line
from autoenc.text import flat
from autoenc.training import checkpoint
from autoenc.training.evaluation import over
from autoenc.training.rundir import read_record

ADOPTED = ("model.bottleneck.", "model.prior")  # may start from those of other classes
SIZING = ("model.latent_dim", "network.", "likelihood.", "model.condition", *ADOPTED)  # shapes of tensors follow


def start_prior(
    model: Autoencoder,
    train: Split,
    batch_size: int,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Set what the prior learns from the training split before the first step; `say` prints a line."""

    def codes(n: int) -> Tensor:
        def both(batch: Batch) -> Tensor:
            code = model.encode(batch)
            return torch.stack([code.mean, code.z], 1).float()

        return over(model, train.sample(n), both, batch_size, device)

    if model.bottleneck.prior is not None:
        model.bottleneck.prior.start(lambda n: train.sample(n).take(slice(None)).x, codes, say)


def initialize_from(model: Autoencoder, path: Path, config: Mapping[str, Any], shape: Sequence[int]) -> bool:
    """Load the best weights of another run of the same architecture into a model.

    The prior keeps its own if that run has another one, or one of other options; return whether it does. A Gaussian
    code may start from a deterministic one (`Bottleneck.adopted`).

    Args:
        config: of the model. shape: of its examples.

    Raises:
        ConfigError: the directory has no weights, or a tensor has another name or shape.
    """
    try:
        found = checkpoint.load(path / "checkpoints" / "best.pt")["model"]
    except (UserError, KeyError) as error:
        raise ConfigError("init_from", path, f"has no weights of a run ({one_line(error)})") from None
    expected = model.state_dict()
    code, prior = "bottleneck.", "bottleneck.prior."
    own = {name.removeprefix(code): found.pop(name) for name in list(found) if name.startswith(code)}
    found |= {code + name: tensor for name, tensor in model.bottleneck.adopted(own).items()}
    theirs, ours = ({k: v.shape for k, v in s.items() if k.startswith(prior)} for s in (found, expected))
    options = [{k: v for k, v in flat(c).items() if k.startswith("model.prior.")} for c in (read_config(path), config)]
    another = theirs != ours or options[0] != options[1]  # stored components depend on model.prior.rate
    if another:
        found = {k: v for k, v in found.items() if k not in theirs} | {k: expected[k] for k in ours}
    for name in [*expected, *(n for n in found if n not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else None for state in (found, expected)]
        if shapes[0] != shapes[1]:
            there, here = ("missing" if size is None else f"of shape {size}" for size in shapes)
            why = resized(path, config, shape) or f"{name} is {there} there and {here} here"
            raise ConfigError("init_from", path, f"{why}; use the settings of that run")
    model.load_state_dict(found)
    return another


def resized(path: Path, config: Mapping[str, Any], shape: Sequence[int]) -> str:
    """Return the settings that tensors of another run may differ by, with both values; empty if none is known."""
    try:
        data, there = read_record(path).get("data"), flat(read_config(path))
    except UserError:
        return ""
    if isinstance(data, dict) and data.get("shape") != list(shape):
        return f"data: examples are of shape {data.get('shape')} there and {list(shape)} here"
    here = flat(config)
    keys = [k for k in {**there, **here} if k.startswith(SIZING) and there.get(k) != here.get(k)]
    parts = tuple(k.removesuffix("_target_") for k in keys if k.endswith("_target_"))  # their options differ, too
    keys = [k for k in keys if k.endswith("_target_") or not parts or not k.startswith(parts)]
    keys = [k for k in keys if not k.startswith(ADOPTED)] or keys
    keys.sort(key=lambda k: next(i for i, start in enumerate(SIZING) if k.startswith(start)))
    return ", ".join(f"{k.removesuffix('._target_')} is {there.get(k)} there and {here.get(k)} here" for k in keys)
