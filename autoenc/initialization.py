"""First values of weights and priors, the same for all models."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import ConfigError, UserError, one_line
from autoenc.networks.parts import Centered
from autoenc.training import checkpoint
from autoenc.training.evaluation import over

GAIN = math.sqrt(2)  # keeps the variance through ReLUs (He et al. 2015)


def initialize(module: nn.Module, gain: float = GAIN) -> None:
    """Set orthogonal weights and zero biases, in place (Saxe et al. 2014).

    An orthogonal map loses no information until a layer is narrower. The 784-128-64-32 autoencoder of
    experiment=article_mnist ends at two thirds of the error reached with torch's default initialization.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def start_tied(model: Autoencoder) -> None:
    """If encoder and decoder are one affine map each, set the encoder's rows to the decoder's normalized columns.

    Dictionaries converge in fewer steps with fewer dead units (Gao et al. 2024, sec. 2.4). The weights are tied at the
    start only.
    """
    halves = (model.encoder, model.bottleneck, model.decoder)
    layers = [m for half in halves for m in half.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))]
    if len(layers) != 2 or not all(isinstance(layer, nn.Linear) for layer in layers):
        return
    encoder, decoder = layers
    assert isinstance(encoder.weight, Tensor)
    assert isinstance(decoder.weight, Tensor)
    if encoder.weight.shape == decoder.weight.T.shape:
        encoder.weight.copy_(nn.functional.normalize(decoder.weight, dim=0).T)


@torch.no_grad()
def start_at_mean(model: Autoencoder, mean: Tensor) -> None:
    """Set the decoder's last bias so that the initial reconstruction is the mean of the data; set the encoder's mean.

    Args:
        mean: (*shape) of the training data. Convolutions have one bias per channel and use the channel's mean.
    """
    for module in model.modules():
        if isinstance(module, Centered):
            module.mean.copy_(mean.flatten())
    layers = [m for m in model.decoder.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)]
    last, params = layers[-1], model.likelihood.params_of(mean)
    if last.bias is not None:
        last.bias.copy_(params.flatten() if isinstance(last, nn.Linear) else params.mean((1, 2)))


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
