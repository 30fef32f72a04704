"""Masked autoencoder: the encoder sees some of the patches, and the others are predicted (He et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict
from autoenc.data.kinds.kind import Kind
from autoenc.errors import ConfigError, require
from autoenc.initialization import initialize
from autoenc.likelihoods import Gaussian
from autoenc.networks.attention import Block
from autoenc.networks.patches import Patches
from autoenc.networks.vit import PatchEncoder
from autoenc.objective import Objective

EPS = 1e-6  # added to the variance of a patch, as in the authors' code
FIRST = 0.1  # factor of the last weights: the first predictions are near 0, the mean of standardized patches
UNPREDICTED = 0.01  # fraction of the variance
UNIT = Gaussian(1.0)  # of standardized values


class Predictor(nn.Module):
    """The light decoder: all tokens from the outputs of the visible ones, with a mask token in place of the others."""

    def __init__(self, patches: Patches, features: int, width: int, layers: int, heads: int):
        super().__init__()
        self.read = nn.Linear(features, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.position = patches.positions(width)
        self.blocks = nn.ModuleList(Block(width, heads, 0.0) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), patches.map(width, patches.values)
        initialize(self)
        with torch.no_grad():
            for parameter in self.out.parameters():
                parameter.mul_(FIRST)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Return the values of all tokens: (B, V, W) -> (B, T, D)."""
        read = self.read(tokens)
        whole = self.mask_token.to(read.dtype).expand(len(read), len(self.position), -1)
        x = whole.scatter(1, keep[..., None].expand_as(read), read) + self.position
        for block in self.blocks:
            x, _ = block(x, None)
        return self.out(self.norm(x)).float()


class Masked(Objective):
    """-log p(hidden tokens | visible tokens), summed over the values of the hidden tokens (He et al. 2022, section 3).

    A fixed number of tokens of each example is hidden, drawn anew each time, and never passes through the layers of the
    encoder. p is the likelihood, or a normal distribution of standard deviation 1 around each value of a hidden token,
    standardized by mean and variance of that token (`normalize`). `masked_r2` is then of the variance within a token,
    after its own mean and contrast.

    The code is that of a whole example, but in `nll` and in the regularizers that of its visible tokens. The decoder
    learns to reconstruct from it without changing it, so that one can see what the code holds; `nll` is no part of the
    loss.

    Args:
        ratio: fraction of the tokens that are hidden, rounded to a number of tokens.
        span: tokens are hidden in blocks of this side: 1: independently.
        normalize: None: for images and series, if a token has several values.
        width, layers, heads: of the Transformer that predicts.
    """

    @classmethod
    def needed(cls, kind: Kind) -> str:
        return "" if kind.continuous else "images, series, vectors or tables"

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        model: Autoencoder,
        ratio: float = 0.75,
        span: int = 1,
        normalize: bool | None = None,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
    ):
        super().__init__(regularizers)
        if not isinstance(model.encoder, PatchEncoder):
            why = "hides tokens of images, vectors or tables from network=vit; this network has none"
            raise ConfigError("", None, why)
        if model.bottleneck.has_posterior or model.bottleneck.symbols or model.condition is not None:
            why = "needs codes without noise, choice or labels: model.bottleneck._target_=autoenc.bottlenecks.Features"
            raise ConfigError("", None, why)
        patches = model.encoder.patches
        count = patches.count
        self.hidden = round(ratio * count)
        why = f"hides {self.hidden} of {count} tokens; at least one must be hidden, and one visible"
        require(0 < self.hidden < count, "ratio", ratio, why)
        longest = int(patches.coordinates.max()) + 1
        require(1 <= span <= longest, "span", span, f"must lie in 1 to {longest}, the tokens along a side")
        for key, value in (("width", width), ("layers", layers), ("heads", heads)):
            require(value >= 1, key, value, "must be 1 or more")
        require(width % heads == 0, "heads", heads, f"must divide model.objective.width={width}")
        several = patches.values > 1
        self.normalize = patches.alike and several if normalize is None else normalize
        if self.normalize and not (patches.alike and several):
            why = "patches of several values can be standardized, of images and series: model.objective.normalize=false"
            raise ConfigError("normalize", normalize, why)
        self.span = span
        self.predictor = Predictor(patches, model.encoder.width, width, layers, heads)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": nn.ModuleList([model, self.predictor])}

    def networks(self) -> list[nn.Module]:
        return [self.predictor]

    def visible(self, patches: Patches, n: int) -> Tensor:
        """Draw the numbers of the visible tokens of n examples: (n, V)."""
        coordinates = patches.coordinates
        sides = coordinates.amax(0) + 1
        shift = torch.randint(self.span, (n, 1, len(sides)), device=coordinates.device)
        block = (coordinates + shift).div(self.span, rounding_mode="floor")  # (n, T, A)
        number = block[..., 0]
        for axis in range(1, len(sides)):
            number = number * (sides[axis] + 1) + block[..., axis]
        score = torch.rand(n, int((sides + 1).prod()), device=coordinates.device).gather(1, number)
        return score.argsort(stable=True)[:, : patches.count - self.hidden]

    def predict(self, model: Autoencoder, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of the visible tokens, all predicted tokens (B, T, D), which are hidden (B, T) bool."""
        encoder = model.encoder
        assert isinstance(encoder, PatchEncoder), "see the constructor"
        keep = self.visible(encoder.patches, len(batch))
        tokens = encoder(model.visible(batch).input, keep)
        hidden = torch.ones(len(batch), encoder.patches.count, dtype=torch.bool, device=keep.device)
        return encoder.pooled(tokens, keep), self.predictor(tokens, keep), hidden.scatter(1, keep, False)

    def standardized(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, T, D) with mean 0 and variance 1, their means and standard deviations (B, T, 1)."""
        mean, scale = tokens.mean(-1, keepdim=True), (tokens.var(-1, keepdim=True) + EPS).sqrt()
        return (tokens - mean) / scale, mean, scale

    def terms(self, model: Autoencoder, predicted: Tensor, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return nats, squared errors, and squared deviations from the mean of the data, summed over the values of the
        hidden tokens: (B,) each."""
        encoder = model.encoder
        assert isinstance(encoder, PatchEncoder), "see the constructor"
        if self.normalize:
            target, *_ = self.standardized(encoder.patches.split(x))
            error = (predicted - target).square()
            each = UNIT.nll_per_dim(predicted, target), error, target.square()
            counted = hidden[..., None]
        else:
            params, mean = encoder.patches.join(predicted), encoder.centered.mean.view(x.shape[1:])
            error = (model.likelihood.mean(params) - x).square()
            each = model.likelihood.nll_per_dim(params, x), error, (x - mean).square()
            counted = encoder.patches.join(hidden[..., None].expand_as(predicted))
            if (observed := model.likelihood.observed(x)) is not None:
                counted = counted & observed
        nats, error, deviation = ((values * counted).flatten(1).sum(1) for values in each)
        return nats, error.detach(), deviation

    def losses(self, model: Autoencoder, batch: Batch, out: Output | None, step: float) -> Loss:
        features, predicted, hidden = self.predict(model, batch)
        code = model.bottleneck(features)
        params = model.decode(code.z.detach())
        seen = Output(code, params, model.likelihood.nll(params.float(), batch.x))
        loss = super().losses(model, batch, seen, step)
        nats, error, deviation = self.terms(model, predicted, batch.x, hidden)
        masked = nats.mean()
        parts = loss.parts | {"loss": loss.parts["loss"] - seen.nll.mean().detach() + masked.detach()}
        parts |= {"masked": masked.detach()}
        if self.training:
            parts["masked_r2"] = 1 - error.mean() / deviation.mean().clamp(min=EPS)
        else:
            parts |= {"masked_error": error.mean(), "masked_deviation": deviation.mean()}
        return Loss(total={"model": loss.total["model"] + masked}, parts=parts)

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        """Return `losses` without running the model on whole examples, which they do not need."""
        return self.losses(model, self.corrupted(model, batch), None, step)

    def of_all(self, means: dict[str, float]) -> dict[str, float]:
        error, deviation = means.pop("masked_error"), means.pop("masked_deviation")
        return means | {"masked_r2": 1 - error / max(deviation, EPS)}

    @torch.no_grad()
    def show(self, model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
        encoder = model.encoder
        assert isinstance(encoder, PatchEncoder), "see the constructor"
        patches = encoder.patches
        _, predicted, hidden = self.predict(model, batch)
        target = patches.split(batch.x)
        if self.normalize:
            _, mean, scale = self.standardized(target)
            predicted = predicted * scale + mean
        else:
            predicted = patches.split(model.likelihood.mean(patches.join(predicted)))
        mean = patches.split(encoder.centered.mean.view(1, *batch.x.shape[1:]))
        hidden = hidden[..., None]
        name = "predicted, with brightness and contrast of the input" if self.normalize else "predicted"
        versions = {"input": target, "visible": target.where(~hidden, mean), name: target.where(~hidden, predicted)}
        return {name: patches.join(tokens) for name, tokens in versions.items()}

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        explained = numbers["masked_r2"]
        text = f"{explained:.0%} of the variance of hidden tokens is predicted"
        if explained < UNPREDICTED:
            return Verdict(False, f"The hidden tokens are not predicted: {text}; try a smaller model.objective.ratio")
        return Verdict(True, f"The visible tokens tell about the hidden ones: {text}")
