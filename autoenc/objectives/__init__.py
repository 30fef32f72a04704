"""Objectives with several players; see objective.Objective."""

from autoenc.objectives.adversarial import Adversarial

__all__ = ["Adversarial"]
