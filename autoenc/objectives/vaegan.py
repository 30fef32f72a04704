"""VAE/GAN (Larsen et al. 2016): reconstruction in the features of a critic that tells images from those decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict
from autoenc.data.kinds.kind import Kind
from autoenc.errors import require
from autoenc.likelihoods import Gaussian
from autoenc.objectives.critic import WithCritic, cross_entropy, watched
from autoenc.objectives.image_critic import ImageCritic
from autoenc.regularizers.kl import require_posterior

BALANCE = math.log(2)  # added to logits, it weighs the image and the two that are decoded alike
UNLIKE = 15  # dB of a reconstruction that anyone can tell from the image


class VAEGAN(WithCritic):
    """Three players, updated simultaneously (algorithm 1 of the paper), with D = sigmoid(critic):

        encoder  L_prior + L_feature: the regularizers, the KL among them, and -log N(f(x); f(x~), I) of the features f
                 of a layer of the critic, x~ the mean of p(x|z)
        decoder  gamma L_feature - L_GAN
        critic   L_GAN = -log D(x) - log(1 - D(x~)) - log(1 - D(x_p)), with x_p decoded from draws from the prior

    Two of three images are decoded: where the critic cannot tell, D = 1/3 and L_GAN = 1.91 nats. The nll of pixels, by
    which models are compared, trains nothing but the scale of a likelihood that learns one.

    Args:
        gamma: weight of the features for the decoder, relative to the critic; L_feature is a sum over the features.
        channels: of each stage of the critic.
        layer: the stage that gives the features, from 1.
    """

    reads_prior = "samples"
    critic: ImageCritic

    @classmethod
    def needed(cls, kind: Kind) -> str:
        return "" if len(kind.shape) > 1 else "images or series"

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        input_shape: tuple[int, ...],
        gamma: float = 0.1,
        channels: Sequence[int] = (16, 32, 64),
        layer: int = 2,
    ):
        require(gamma >= 0, "gamma", gamma, "must be 0 or more")
        super().__init__(regularizers, ImageCritic(input_shape, channels, layer))
        self.gamma = gamma
        self.similarity = Gaussian(1.0)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        encoder = [part for part in (model.encoder, model.bottleneck, model.condition) if part is not None]
        decoder = [model.decoder, model.likelihood]
        return {"encoder": nn.ModuleList(encoder), "decoder": nn.ModuleList(decoder), "critic": self.critic}

    def networks(self) -> list[nn.Module]:
        return [self.critic.below, self.critic.above]

    def check(self, model: Autoencoder) -> None:
        require_posterior(model, "", with_prior=True)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        prior = super().losses(model, batch, replace(out, nll=torch.zeros_like(out.nll)), step)
        drawn, gradient = watched(self._drawn(model, batch))
        x_hat = model.likelihood.mean(out.params.float())
        real, seen, made = (self.critic.features(x) for x in (batch.x, x_hat, drawn))
        feature = self.similarity.nll(seen.float(), real.float()).mean()

        logits = self.critic.logits(real)
        reconstructed, sampled = self.critic.logits(seen), self.critic.logits(made)
        gan = cross_entropy(logits, reconstructed) + softplus(sampled).mean()
        scale = model.likelihood.nll(out.params.detach().float(), batch.x).mean()
        terms = prior.total["model"]  # those that depend on the decoder reach it too
        total = {
            "encoder": terms + feature,
            "decoder": terms + self.gamma * feature - gan + scale,
            "critic": gan,
        }
        parts = prior.parts | {"loss": prior.parts["loss"] + feature.detach(), "nll": out.nll.mean().detach()}
        parts |= {"feature_nll": feature.detach()}
        parts |= self.health(gan, logits + BALANCE, torch.cat([reconstructed, sampled]) + BALANCE)
        return Loss(total=total, parts=parts | gradient)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        won = "a smaller model.players.critic.lr or model.objective.gamma"
        lost = "a larger model.players.critic.lr or model.objective.gamma"
        psnr = numbers.get("psnr", math.inf)
        differ = f"psnr of reconstructions {psnr:.1f} dB" if psnr < UNLIKE else ""
        return self.judged(numbers, "images and decoded ones", won, lost, differ)

    @staticmethod
    def _drawn(model: Autoencoder, batch: Batch) -> Tensor:
        """Return images (B, C, H, W) of draws from the prior, with the labels of the batch if there is a condition."""
        z = model.bottleneck.sample(len(batch))
        assert z is not None, "see check"
        return model.likelihood.mean(model.decode(z.detach(), batch).float())
