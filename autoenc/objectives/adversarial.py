"""Adversarial autoencoder (Makhzani et al. 2016): a critic matches the codes to the prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor
from torch.nn.functional import softplus

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict
from autoenc.errors import ConfigError
from autoenc.objectives.critic import Critic, WithCritic, cross_entropy, watched
from autoenc.verdict import DIFFERENT


class Adversarial(WithCritic):
    """Two players, updated simultaneously:

        model    nll + regularizers + weight * E_x[-log D(z)], z = encoder(x): the non-saturating generator loss
                 (Goodfellow et al. 2014), which pulls the aggregate posterior towards the prior
        critic   -E_p(z)[log D(z)] - E_x[log(1 - D(z))], with D = sigmoid(critic)

    At the equilibrium D = 1/2: generator 0.693, critic 1.386 nats. The paper updates critic, encoder and autoencoder in
    turn; here the losses are of the same batch, and `train_step` separates their gradients.

    Args:
        weight: of the generator loss, relative to the nll (summed over the dimensions of x); a number or a schedule.
        hidden: widths of the critic's hidden layers.
    """

    reads_prior = "samples"

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        latent_shape: tuple[int, ...],
        weight: float | Callable[[float], float] = 10.0,
        hidden: Sequence[int] = (128, 128),
    ):
        super().__init__(regularizers, Critic(latent_shape, hidden), weight)

    def check(self, model: Autoencoder) -> None:
        if model.bottleneck.prior is None:
            why = "needs a prior: prior=standard"
            raise ConfigError("", None, why)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        seen, gradient = watched(out.code.z)
        generator = softplus(-self.critic(seen)).mean()
        real, made = self.critic(self._drawn(model, len(batch))), self.critic(out.code.z.detach())
        critic = cross_entropy(real, made)
        parts = self.health(critic, real, made) | gradient
        return self.joined(loss, "generator", generator, critic, parts, step)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        mmd = numbers.get("mmd", 0.0)
        differ = f"mmd {mmd:.2f}" if mmd > DIFFERENT else ""
        won = "a larger model.objective.weight or a smaller model.players.critic.lr"
        lost = "a smaller model.objective.weight or a larger model.players.critic.lr"
        return self.judged(numbers, "codes and draws from the prior", won, lost, differ)

    @staticmethod
    def _drawn(model: Autoencoder, n: int) -> Tensor:
        z = model.bottleneck.sample(n)
        assert z is not None, "see check"
        return z.detach()
