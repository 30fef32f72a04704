"""Assessment of a trained model in words: whether its parts do their work, and what to try if not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from autoenc.core import Autoencoder, Verdict
from autoenc.errors import counted
from autoenc.metrics import ACTIVE_VARIANCE, PAIRS

WON, LOST = 0.95, 0.55  # accuracy of a critic of two sets; chance is 0.5
MANY = 200  # steps
DIFFERENT = 0.1  # mmd of codes and draws from the prior; at most 0.02 for matched ones
UNUSED = 0.1  # fraction of a codebook
ENOUGH = 2  # examples that can differ


class Diagnosed(Protocol):
    """An objective that says what metrics mean for it, and whether that is all there is to say about the code."""

    judges_code: ClassVar[bool]

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict | None: ...


def verdict(
    model: Autoencoder,
    objective: Diagnosed | None,
    numbers: Mapping[str, float],
    remedies: Sequence[str] = (),
    examples: int | None = None,
) -> Verdict:
    """Return what the metrics of a trained model say about its code, prior and objective; faults come first.

    Args:
        numbers: metrics of a split, those of the code included.
        remedies, examples: see `of_code`. The code is not judged by one example.
    """
    prior = model.bottleneck.prior
    judged = objective is not None and objective.judges_code
    few = examples is not None and examples < ENOUGH  # one row has no variance, and few indices of a codebook
    code: Verdict | None = None
    if few:
        code = Verdict(True, f"{counted(examples or 0, 'examples are')} too few to tell whether the code is in use")
    elif not judged:
        code = model.bottleneck.diagnosis(numbers) or of_code(numbers, remedies, examples)
    found = [
        code,
        None if prior is None else prior.diagnosis(numbers),
        None if objective is None or (judged and few) else objective.diagnosis(numbers),
    ]
    parts = sorted((each for each in found if each is not None), key=lambda each: each.healthy)
    return Verdict(all(part.healthy for part in parts), ". ".join(part.text for part in parts))


def of_codebook(numbers: Mapping[str, float], remedy: str) -> Verdict:
    """Return whether a codebook is in use: code_perplexity and codes_used."""
    share, perplexity = numbers["codes_used"], numbers["code_perplexity"]
    used = f"{share:.0%} of the entries of the codebook, perplexity {perplexity:.1f}"
    if perplexity < 2:
        return Verdict(False, f"The codebook has collapsed: {used}; try {remedy}")
    if share < UNUSED:
        return Verdict(False, f"Most of the codebook is unused: {used}; try {remedy}")
    return Verdict(True, f"The codebook is in use: {used}")


def of_critic(
    accuracy: float, steps: tuple[int, int], sets: str, won: str, lost: str = "", differ: str = ""
) -> Verdict:
    """Return whether a critic of two sets neither wins nor loses outright for many steps.

    Args:
        accuracy: the share of both sets that the critic of a trained model tells apart.
        steps: the number of the last training steps in which it told more than 95 % apart, and fewer than 55 %.
        sets: the two, in words.
        won, lost: what to try if the critic wins or loses.
        differ: the evidence that the sets differ; without it, a critic that cannot tell them apart is right.
    """
    if steps[0] >= MANY:
        told = f"it told more than {WON:.0%} of {sets} apart in the last {steps[0]:,} steps"
        return Verdict(False, f"The critic has won: {told}; try {won}")
    if steps[1] >= MANY and differ:
        told = f"it told fewer than {LOST:.0%} of {sets} apart in the last {steps[1]:,} steps, although they differ"
        return Verdict(False, f"The critic has lost: {told} ({differ}); try {lost}")
    return Verdict(True, f"The critic tells {accuracy:.0%} of {sets} apart, 50% is chance")


def of_code(numbers: Mapping[str, float], remedies: Sequence[str] = (), examples: int | None = None) -> Verdict:
    """Return whether a codebook is in use, the posterior has collapsed or units have died, with a remedy.

    Args:
        remedies: overrides against a collapsed posterior; see `Likelihood.remedy` and `config.remedies`.
        examples: in the split of the metrics; the estimate of mutual information cannot exceed their logarithm.
    """
    if "codes_used" in numbers:
        return of_codebook(numbers, "fewer codes or a smaller optimizer.lr")
    dim, active, dead = int(numbers["dim"]), int(numbers["active_units"]), int(numbers["dead_units"])
    if "kl" in numbers:
        used = f"{active} of {dim} latent dimensions active, KL {numbers['kl']:.2f} nats"
        if "mutual_information" in numbers:
            shared, ceiling = numbers["mutual_information"], math.log(min(examples or PAIRS, PAIRS))
            least = "at least " if shared > 0.95 * ceiling else ""
            used += f", mutual information of x and z {least}{shared:.2f} nats"
        *most, last = [r for r in remedies if r] or ["a smaller weight of the KL"]
        remedy = f"try {', '.join(most)}{' or ' if most else ''}{last}"
        if active > 0 and numbers["kl"] > 1 and numbers.get("mutual_information", 1.0) < 0.1:
            why = "the code is independent of x, as before training; train for longer"
            return Verdict(False, f"The code carries no information: {used}; {why}")
        if active == 0 or min(numbers["kl"], numbers.get("mutual_information", 1.0)) < 0.1:
            return Verdict(False, f"The posterior has collapsed: {used}; the decoder ignores the code; {remedy}")
        if active <= dim / 4:
            return Verdict(
                False, f"Most of the posterior has collapsed: {used}; {remedy}; or a smaller model.latent_dim"
            )
        return Verdict(True, f"The code is in use: {used}")
    if dead > 0.05 * dim:
        remedy = "try a smaller optimizer.lr, a smaller penalty on the code or a larger k, or fewer units"
        return Verdict(False, f"{dead} of {dim} units of the code are dead (zero for every example); {remedy}")
    if active == 0:
        return Verdict(False, f"The code is constant: 0 of {dim} units vary by more than {ACTIVE_VARIANCE}")
    # No criterion for small variances: the scale of a deterministic code is arbitrary.
    sparse = f", {numbers['mean_active']:.1f} active at a time" if numbers["zeros"] > 0.05 else ""
    return Verdict(True, f"The code is in use: {dim - dead} of {dim} units{sparse}")
