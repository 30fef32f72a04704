"""Checks that the parts of a model fit the data, the settings and each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from autoenc.config.checks import check_target
from autoenc.config.signatures import options
from autoenc.core import Autoencoder, Likelihood, Regularizer
from autoenc.data.dataset import Data, DataSpec
from autoenc.errors import ConfigError
from autoenc.objective import Objective
from autoenc.training.settings import TrainerSettings


def check_prior(node: Mapping[str, Any] | None, model: Autoencoder, objective: Objective) -> None:
    """Raise ConfigError if a chosen prior would have no effect, or would not learn."""
    prior = model.bottleneck.prior
    if not node or prior is None:
        return
    read = {objective.reads_prior, *(term.reads_prior for term in objective.regularizers.values())} - {""}
    learnt = any(p.requires_grad for p in prior.parameters())
    if not read or (learnt and "density" not in read):
        name, what = type(prior).__name__, "trains" if learnt else "reads"
        other = "prior=standard, or " if read else ""
        why = f"no term of the objective {what} the prior {name}; {other}regularizer=[kl] does, as in model=vae"
        raise ConfigError("model.prior", None, why)


def check_parts(config: Mapping[str, Any], spec: DataSpec) -> None:
    """Raise ConfigError unless the parts that depend on the kind of data accept its sizes, such as a vocabulary."""
    target = config["model"]["objective"]["_target_"]
    check_target("model.objective", target)
    if needed := get_object(target).needed(spec.kind):  # before a network is named that fits the data but not this
        why = f"{target.rpartition('.')[2]} needs {needed}, and {spec.name} has {spec.kind.noun}; use model=vae"
        raise ConfigError("model.objective", None, why)
    for group, right in spec.kind.parts.items():
        target = config[group]["_target_"]
        if not spec.kind.given().keys() & options(target).keys() and target != "autoenc.noise.Identity":
            part = target.rpartition(".")[2]
            raise ConfigError(
                group, None, f"{part} is for numbers, and {spec.name} has {spec.kind.noun}: {group}={right}"
            )


def check_support(likelihood: Likelihood, name: str, lowest: float, highest: float) -> None:
    """Raise ConfigError unless the values from `lowest` to `highest` are in the support of the likelihood."""
    low, high = likelihood.support()
    if lowest < low or highest > high:
        kind = type(likelihood).__name__
        why = f"{kind} needs values in [{low:g}, {high:g}]; {name} has {lowest:.4g} to {highest:.4g}"
        raise ConfigError("likelihood", None, f"{why}; scale the data, or try likelihood=gaussian")


def check_batches(objective: Objective, settings: TrainerSettings, data: Data) -> None:
    """Raise ConfigError if batches of training or evaluation are too small for a term of the objective."""
    terms = {f"regularizer={name}": term for name, term in objective.regularizers.items()}
    named: dict[str, Objective | Regularizer] = {f"the objective {type(objective).__name__}": objective, **terms}
    needs, name = max((part.smallest_batch, name) for name, part in named.items())
    why = f"{name} needs {needs} examples in a batch"
    for key, splits in (("batch_size", (data.train,)), ("eval_batch_size", (data.val, data.test))):
        size = getattr(settings, key)
        if size < needs:
            raise ConfigError(f"trainer.{key}", size, f"must be {needs} or more: {why}")
        if 0 < (fewest := min(map(len, splits))) < needs:
            raise ConfigError("data", None, f"too few examples: a split has {fewest}, and {why}")
