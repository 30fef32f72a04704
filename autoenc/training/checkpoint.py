"""Checkpoints of tensors and plain values, so that loading one executes nothing it contains."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoenc.errors import DataError, one_line
from autoenc.files import atomic, check_zip


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state atomically: readers find either the old or the new file."""
    path.parent.mkdir(exist_ok=True)
    with atomic(path) as file:
        torch.save(_compact(state), file)


def _compact(value: Any) -> Any:
    """Return a value with copies of the tensors that are parts of larger ones, of which torch would save the whole."""
    if isinstance(value, Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, dict):
        copied = copy.copy(value)  # with the versions of modules, an attribute
        copied.update((key, _compact(part)) for key, part in value.items())
        return copied
    return type(value)(map(_compact, value)) if type(value) in (list, tuple) else value


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a state; DataError if the file is missing, damaged, or has other objects than tensors and plain values."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("is no regular file")
        check_zip(path, path.stat().st_size, stored=True)  # torch does not compress
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"holds a {type(state).__name__}")
        return state
    except FileNotFoundError:
        raise DataError(f"{path}: no such checkpoint") from None
    except pickle.UnpicklingError as error:
        why = one_line(error)
        raise DataError(f"{path}: rejected, has more than tensors and plain values ({why})") from None
    except Exception as error:  # torch raises many types for damaged files
        raise DataError(f"{path}: damaged ({one_line(error)})") from None


def check_state(state: dict[str, Any], path: Path) -> None:
    """Raise DataError unless a state has what resuming needs."""
    parts = {"config": str, "data": int, "progress": dict, "model": dict, "optimizers": dict, "rng": dict}
    if missing := sorted(parts.keys() - state.keys()):
        raise DataError(f"{path}: has no {', '.join(missing)}")
    numbers = {"step": int, "stale": int, "best": dict, "training_seconds": int | float, "examples": int}
    best = {"value": int | float, "step": int}
    wrong = [name for name, kind in parts.items() if not isinstance(state[name], kind)]
    if not wrong and "seconds" in state["progress"]:  # earlier versions had none
        numbers["seconds"] = int | float
    wrong += [name for name, kind in numbers.items() if not wrong and not isinstance(state["progress"].get(name), kind)]
    wrong += [
        name for name, kind in best.items() if not wrong and not isinstance(state["progress"]["best"].get(name), kind)
    ]
    if wrong:
        raise DataError(f"{path}: damaged ({wrong[0]} is not what was written)")


def check_step(optimizer: Optimizer) -> None:
    """Raise an error unless the state of an optimizer fits its parameters, of which torch compares only the number.

    A copy of each parameter takes a step with a copy of its state. Fused steps would not check shapes, but write beyond
    tensors that are too small.
    """
    trial = copy.copy(optimizer)
    for group in optimizer.param_groups:
        group = group | dict.fromkeys(group.keys() & {"fused", "foreach"}, False)
        for parameter in group["params"]:
            twin = nn.Parameter(parameter.detach().clone())
            twin.grad = torch.zeros_like(twin)
            trial.param_groups = [group | {"params": [twin]}]
            trial.state = defaultdict(dict, {twin: copy.deepcopy(optimizer.state.get(parameter, {}))})
            trial.step()


def mismatch(error: Exception) -> str:
    """Return why a state does not fit, in one line: torch names the tensors in the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else (lines or [type(error).__name__])[0]


def restore_best(state: dict[str, Any], model: nn.Module, objective: nn.Module) -> None:
    """Load the weights in best.pt into model and objective. Files of version 0.1 have no objective;
    this is accepted if the objective has no state.

    Raises:
        KeyError, RuntimeError: the state does not fit.
    """
    model.load_state_dict(state["model"])
    objective.load_state_dict(state.get("objective", {}))


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of torch's generators, which noise, samples and dropout use."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the generators from the result of `rng_state`."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
