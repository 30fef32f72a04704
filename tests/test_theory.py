"""Where the optimum is known: a linear autoencoder finds the principal subspace, a linear VAE probabilistic PCA."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autoenc import bottlenecks, likelihoods, networks
from autoenc.core import Autoencoder, Batch
from autoenc.objective import Objective, train_step
from autoenc.regularizers import KL
from autoenc.schedules import Cosine

MakeModel = Callable[..., Autoencoder]


def data(n: int = 400) -> Tensor:
    """(n, 6) with two strong directions and a mean."""
    return (
        torch.randn(n, 2) @ torch.tensor([[2.0, 1, 0, -1, 0.5, 0], [0.0, 1, -1, 1, 0, 1.5]])
        + 0.5 * torch.randn(n, 6)
        + 1
    )


def eigenvalues(x: Tensor) -> Tensor:
    """Of the maximum-likelihood covariance, the largest first."""
    return torch.linalg.eigvalsh(torch.cov(x.T.double(), correction=0)).flip(0)


def train(model: Autoencoder, objective: Objective, x: Tensor, steps: int, lr: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    factor = Cosine(steps)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * factor(step)
        train_step(model, objective, Batch(x), step, {"model": optimizer})


def test_a_linear_autoencoder_spans_the_principal_subspace(make_model: MakeModel) -> None:
    x = data()
    model = make_model(latent_dim=2, network=networks.linear)
    train(model, Objective({}), x, steps=600, lr=0.05)
    mse = (model.reconstruct(Batch(x)) - x).square().mean()
    best = eigenvalues(x)[2:].sum() / 6
    torch.testing.assert_close(mse.double(), best, rtol=1e-3, atol=0)
    directions = torch.linalg.eigh(torch.cov(x.T)).eigenvectors[:, -2:]  # (6, 2)
    span = torch.linalg.qr(model.decoder[0].weight.detach()).Q
    torch.testing.assert_close(span @ span.T, directions @ directions.T, atol=0.01, rtol=0)


def test_a_linear_vae_with_learnt_sigma_is_probabilistic_pca(make_model: MakeModel) -> None:
    """Tipping & Bishop 1999: sigma^2 is the mean of the discarded eigenvalues. Lucas et al. 2019: the bound is tight
    for a linear VAE, its maximum the likelihood of probabilistic PCA."""
    x, k = data(), 2
    model = make_model(
        bottlenecks.Gaussian, latent_dim=k, network=networks.linear, likelihood=likelihoods.Gaussian(learned=True)
    )
    train(model, Objective({"kl": KL()}), x, steps=1000, lr=0.03)

    spectrum = eigenvalues(x)
    variance = spectrum[k:].mean()
    log_det = spectrum[:k].log().sum() + (6 - k) * variance.log()
    nll = 0.5 * (6 * math.log(2 * math.pi) + log_det + 6)  # trace(C^-1 S) = 6 at the optimum
    assert abs(2 * model.likelihood.log_scale.item() - variance.log().item()) < 0.03

    with torch.no_grad():
        code = model.encode(Batch(x))
        z = code.posterior.sample((500,))  # (S, B, k)
        kl = KL()(model, Batch(x), model(Batch(x)), 0).mean()
        bound = model.nll(z, Batch(x)).mean() + kl
    assert nll - 0.01 < bound.item() < nll + 0.03  # never better than the likelihood, but for sampling
