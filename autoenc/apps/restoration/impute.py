"""Imputation of missing cells from the posterior of the code given the observed ones (Mattei & Frellsen 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from autoenc.apps.protocol.bounds import fit, weighted
from autoenc.core import Batch
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run

SAMPLES = 1_000


def check(run: Run) -> None:
    """Raise UserError unless the model was trained on observed cells only and has a posterior."""
    few = run.reference.rows.take(slice(0, 1)).x.to(run.device)
    if run.model.likelihood.observed(few) is None:
        raise UserError(f"{run.path}: needs a model of observed cells, data=table model=miwae (or vae with "
                        "likelihood.observed_only=true)")  # fmt: skip
    if not run.model.bottleneck.has_posterior or run.model.bottleneck.prior is None:
        raise UserError(f"{run.path}: needs a posterior and a prior, such as the Gaussian codes of model=miwae")


def impute(run: Run, split: Split, draws: int = 0, samples: int = SAMPLES) -> list[Tensor]:
    """Return versions (N, D) of rows without missing cells; the observed ones are those of the model, not of the data.

    With w_s as in `bounds.bounds`, where p(x|z) is of the observed cells, and v_s = w_s / sum_r w_r:

        draws = 0   one version, E[x|observed], estimated by sum_s v_s E[x|z_s]: self-normalized importance sampling
        else        x ~ p(x|z_s) with s ~ v, that many times: sampling importance resampling (Rubin 1987)
    """
    require(samples >= 1, "samples", samples, "must be 1 or more")
    model, width = run.model, run.spec.kind.outputs
    scale = run.residual if draws else None

    def of_batch(batch: Batch) -> Tensor:
        """Return (B, 1, D) or (B, draws, D)."""
        parts = list(weighted(run, batch, samples, fit(len(batch) * width)))
        v = torch.cat([log_w for _, log_w in parts]).softmax(0)  # (S, B)
        if scale is not None:
            chosen = torch.multinomial(v.T, draws, replacement=True).T  # (draws, B)
            z = torch.cat([z for z, _ in parts])[chosen, torch.arange(len(batch), device=chosen.device)]
            return torch.stack([model.likelihood.sample(model.decode(each, batch).float(), scale) for each in z], 1)
        weights = v.float().split([len(z) for z, _ in parts])
        means = [
            (u.unsqueeze(-1) * model.likelihood.mean(model.decode(z, batch).float())).sum(0)
            for u, (z, _) in zip(weights, parts, strict=True)
        ]
        return torch.stack(means).sum(0).unsqueeze(1)

    rows = min(run.batch_size, fit(samples * max(run.latent_dim, 1)), fit(width * max(draws, 1)))
    return list(run.over(split, of_batch, rows).unbind(1))
