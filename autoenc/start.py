"""What a run starts from: values that the prior takes from the training rows, weights of another run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import ConfigError, UserError, one_line
from autoenc.training import checkpoint
from autoenc.training.evaluation import over


def start_prior(model: Autoencoder, train: Split, batch_size: int, device: torch.device) -> None:
    """Set what the prior learns from the training split before the first step."""

    def codes(n: int) -> Tensor:
        def both(batch: Batch) -> Tensor:
            code = model.encode(batch)
            return torch.stack([code.mean, code.z], 1).float()

        return over(model, train.sample(n), both, batch_size, device)

    if model.bottleneck.prior is not None:
        model.bottleneck.prior.start(lambda n: train.sample(n).take(slice(None)).x, codes)


def initialize_from(model: Autoencoder, path: Path) -> bool:
    """Load the best weights of another run of the same architecture into a model.

    The prior keeps its own if that run has another one; return whether it does. A Gaussian code may start from a
    deterministic one (`Bottleneck.adopted`).

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
    if theirs != ours:
        found = {k: v for k, v in found.items() if k not in theirs} | {k: expected[k] for k in ours}
    for name in [*expected, *(n for n in found if n not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else None for state in (found, expected)]
        if shapes[0] != shapes[1]:
            there, here = ("missing" if shape is None else f"of shape {shape}" for shape in shapes)
            why = f"{name} is {there} there and {here} here; use the model and network options of that run"
            raise ConfigError("init_from", path, why)
    model.load_state_dict(found)
    return theirs != ours
