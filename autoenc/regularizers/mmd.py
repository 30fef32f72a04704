"""Maximum mean discrepancy of codes and prior, the penalty of Wasserstein autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from autoenc import metrics
from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.errors import ConfigError


@dataclass(frozen=True)
class MMD(Regularizer):
    """Squared maximum mean discrepancy of the codes of the batch and as many draws from the prior.

    The penalty of WAE-MMD (Tolstikhin et al. 2018, algorithm 2), which matches the distribution of all codes to the
    prior, where the KL matches the posterior of each example. The estimate is unbiased, and less noisy in larger
    batches; `metrics.mmd` has its kernels.
    """

    smallest_batch: ClassVar[int] = 2
    reads_prior: ClassVar[str] = "samples"

    weight: float | Callable[[float], float] = 100.0

    def check(self, model: Autoencoder) -> None:
        if model.bottleneck.prior is None:
            raise ConfigError("mmd", None, "needs a prior: prior=standard")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        drawn = model.bottleneck.sample(len(batch))
        assert drawn is not None, "see check"
        return metrics.mmd(out.code.z, drawn.detach())
