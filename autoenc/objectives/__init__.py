"""Objectives that go beyond a likelihood and regularizers: those with players of their own. See objective.Objective."""

from autoenc.objectives.adversarial import Adversarial

__all__ = ["Adversarial"]
