"""Checkpoints: tensors and plain Python only, so that reading one runs nothing that it contains."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoenc.errors import DataError, one_line
from autoenc.files import atomic


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically: a reader finds the old file or the new one, never a part."""
    path.parent.mkdir(exist_ok=True)
    with atomic(path) as file:
        torch.save(state, file)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a state; DataError where the file is missing, cut off, or holds more than tensors and plain Python."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError as error:
        why = one_line(error)
        raise DataError(f"{path}: not a checkpoint of tensors and plain values alone; refused ({why})") from None
    except Exception as error:  # whatever the bytes of a damaged file make of torch's reader
        raise DataError(f"{path}: damaged ({one_line(error)})") from None


def restore_best(state: dict[str, Any], model: nn.Module, objective: nn.Module) -> None:
    """Load the weights in best.pt into model and objective. Files of older versions have no objective, which
    is accepted where it has no state.

    Raises:
        KeyError, RuntimeError: the state does not fit.
    """
    model.load_state_dict(state["model"])
    objective.load_state_dict(state.get("objective", {}))


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's generators: noise, samples and dropout go on from it."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put the generators back; `state` as rng_state gave it."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
