"""One training run: from a checked config to a complete run directory."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import errno
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from autoenc import build, checkpoint, figures
from autoenc.build import Parts
from autoenc.config import Config, check, one_line
from autoenc.data.spec import Data
from autoenc.errors import ConfigError, DataError, Interrupted, NotFinite, UserError
from autoenc.evaluation import Evaluation, evaluate, sensitivity
from autoenc.files import write_json, write_text
from autoenc.metrics import verdict
from autoenc.settings import TrainerSettings
from autoenc.tracking import METRICS, Progression, Tracker, result_table
from autoenc.trainer import Trainer

log = logging.getLogger("autoenc")

PROJECTED = 1_000  # codes in the embedding projector


def train(config: dict[str, Any], run_dir: Path, resume: bool = False) -> dict[str, Any]:
    """Train a checked config in `run_dir` and return its summary.

    Nothing is written before config and data have proved good. After that run.json says how the run ended.

    Args:
        resume: go on from checkpoints/last.pt.

    Raises:
        UserError: config or data are wrong. NotFinite: the loss is not finite any more. Interrupted.
    """
    started = time.perf_counter()
    settings = TrainerSettings(**config["trainer"])
    device = pick_device(settings.device)
    with _torch_settings(settings), _seeded(config["seed"]):
        parts = build.build(config, device)
        text = yaml.safe_dump(config, sort_keys=False)
        fingerprint = data_fingerprint(parts.data)
        with _claimed(run_dir), _disk_errors(run_dir):
            state = None
            if resume:
                state = checkpoint.load(run_dir / "checkpoints" / "last.pt", device)
                _check_same(run_dir, state, text, fingerprint)
            else:
                write_text(run_dir / "config.yaml", text)
            record = _Record(run_dir, config, parts.data, device, resumed=resume)
            tracker = Tracker(run_dir, resume_step=state["progress"]["step"] if state else None)
            try:
                record.write("running")
                trainer = Trainer(
                    parts.model, parts.objective, parts.optimizers, parts.data, settings, config["seed"], device,
                    tracker, run_dir / "checkpoints",
                    pictures=lambda step, evaluation: _draw(tracker, parts, evaluation, step),
                    identity={"config": text, "data": fingerprint},
                )  # fmt: skip
                if state is not None:
                    trainer.restore(state)
                summary = _fit_and_finish(trainer, parts, config, run_dir, tracker, started)
                record.write("finished")
                return summary
            except NotFinite as error:
                last = run_dir / "checkpoints" / "last.pt"
                good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written before"
                message = f"{error}; {good}; try a smaller optimizer.lr or trainer.clip=1"
                record.write("failed", message)
                raise NotFinite(message) from None
            except Interrupted:
                record.write("interrupted")
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):  # a full disk is what failed, perhaps
                    record.write("failed", f"{type(error).__name__}: {one_line(error)}")
                raise
            finally:
                with contextlib.suppress(OSError):
                    tracker.close()


def _fit_and_finish(
    trainer: Trainer, parts: Parts, config: dict[str, Any], run_dir: Path, tracker: Tracker, started: float
) -> dict[str, Any]:
    """Train, then measure the chosen weights on validation and test data."""
    model, data = parts.model, parts.data
    progress = Progression(trainer.total_steps, trainer.steps_per_epoch)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes = f"{len(data.train):,} training, {len(data.val):,} validation, {len(data.test):,} test examples"
    progress.line(f"{data.spec.name}: {sizes}; {count:,} parameters; {trainer.total_steps:,} steps on {trainer.device}")
    if trainer.step:
        progress.line(f"going on after step {trainer.step:,}")
    trainer.fit(progress)

    best = checkpoint.load(run_dir / "checkpoints" / "best.pt", trainer.device)
    model.load_state_dict(best["model"])
    step, batch_size = trainer.step, parts.settings.eval_batch_size
    results = {
        name: evaluate(model, parts.objective, split, data.spec, batch_size)
        for name, split in (("val", data.val), ("test", data.test))
    }
    latent = results["test"].latent | {"jacobian_norm": sensitivity(model, data.test)}
    judged = verdict(results["test"].latent)
    summary = {
        "state": "finished",
        "step": best["step"],
        "val": results["val"].numbers,
        "test": results["test"].numbers,
        "latent": latent,
        "verdict": judged.text,
        "perf": {
            "seconds": time.perf_counter() - started,
            "training_seconds": trainer.training_seconds,
            "examples_per_second": trainer.examples_per_second,
            "peak_memory_mb": _peak_memory_mb(trainer.device),
            "parameters": count,
        },
    }
    tracker.evaluation("test", step, step / trainer.steps_per_epoch, results["test"].numbers | latent)
    tracker.scalars("test", results["test"].numbers, step)
    tracker.scalars("latent", latent, step)
    _draw(tracker, parts, results["val"], step)
    lines = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
    tracker.image("loss", figures.curves(lines), step)
    _project(tracker, parts, results["val"])
    test = {f"hparam/test_{k}": v for k, v in results["test"].numbers.items()}
    tracker.hparams(flat(config), test | {f"hparam/{k}": v for k, v in latent.items()})
    write_json(run_dir / "summary.json", summary)
    progress.console.print(result_table("result", {"val": results["val"].numbers, "test": results["test"].numbers}))
    progress.line(judged.text if judged.healthy else f"Attention: {judged.text}")
    perf = summary["perf"]
    progress.line(
        f"{perf['seconds']:.1f} s, {perf['examples_per_second']:,.0f} examples/s, {perf['peak_memory_mb']:,.0f} MB;"
        f" weights of step {best['step']}"
    )
    progress.line(f"run: {run_dir}   pictures: {run_dir / 'figures'}")
    return summary


def _draw(tracker: Tracker, parts: Parts, evaluation: Evaluation, step: int) -> None:
    for name, image in figures.all_pictures(parts.model, parts.data.val, parts.data.spec, evaluation).items():
        tracker.image(name, image, step)
    tracker.histogram("latent/codes", evaluation.codes, step)


def _project(tracker: Tracker, parts: Parts, evaluation: Evaluation) -> None:
    """The first validation codes to the embedding projector."""
    n = min(PROJECTED, len(evaluation.codes))
    classes, labels = parts.data.spec.classes, None
    if evaluation.labels is not None:
        labels = [classes[i] if i < len(classes) else str(i) for i in evaluation.labels[:n].tolist()]
    if evaluation.codes.shape[1] > 1:  # the projector needs two dimensions
        tracker.embedding(evaluation.codes[:n], labels, figures.sprites(parts.data.val, parts.data.spec, n))


def resume(run_dir: Path) -> dict[str, Any]:
    """Go on with a run that was stopped, with its own config."""
    for path in (run_dir, run_dir / "config.yaml", run_dir / "run.json"):
        if not path.exists():
            raise ConfigError("resume", run_dir, f"is no run directory: {path} does not exist")
    state = read_state(run_dir)
    if state == "finished":
        raise ConfigError("resume", run_dir, "is finished; there is nothing to go on with")
    if not (run_dir / "checkpoints" / "last.pt").exists():
        raise ConfigError("resume", run_dir, "stopped before its first checkpoint; start it again")
    return train(read_config(run_dir), run_dir, resume=True)


def read_state(run_dir: Path) -> str:
    """What run.json says of the run: running, finished, failed or interrupted."""
    try:
        return json.loads((run_dir / "run.json").read_text())["state"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{run_dir / 'run.json'}: cannot be read ({one_line(error)})") from None


def read_config(run_dir: Path) -> dict[str, Any]:
    """The checked config of a run directory."""
    path = run_dir / "config.yaml"
    try:
        loaded = OmegaConf.create(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    merged = OmegaConf.merge(OmegaConf.structured(Config), loaded)
    assert isinstance(merged, DictConfig)
    return check(merged)


def _check_same(run_dir: Path, state: Mapping[str, Any], text: str, fingerprint: int) -> None:
    """ConfigError unless config and data are those that the checkpoint was trained with."""
    if state["config"] != text:
        old, new = (flat(yaml.safe_load(t)) for t in (state["config"], text))
        keys = [k for k in {**old, **new} if old.get(k, difflib) != new.get(k, difflib)]
        changes = ", ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in keys)
        raise ConfigError("resume", run_dir, f"its config.yaml was changed since it was trained ({changes})")
    if state["data"] != fingerprint:
        raise ConfigError("resume", run_dir, "its data are not those that it was trained on")


def data_fingerprint(data: Data) -> int:
    """A checksum of the training data as stored, in its order."""
    x = data.train.x.cpu().contiguous()
    return zlib.crc32(x.view(torch.uint8).numpy().data if x.dtype != torch.uint8 else x.numpy().data)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys; lists as text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value) if isinstance(value, list | dict) else value
    return found


class _Record:
    """run.json."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any], data: Data, device: torch.device, resumed: bool):
        self.path = run_dir / "run.json"
        started = _now()
        if resumed:
            with contextlib.suppress(OSError, ValueError, KeyError):
                started = json.loads(self.path.read_text())["started"]
        self.values = {
            "state": "running",
            "started": started,
            "command": sys.argv,
            "seed": config["seed"],
            "device": str(device),
            "data": dataclasses.asdict(data.spec)
            | {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
            "versions": {"python": platform.python_version()}
            | {p: importlib.metadata.version(p) for p in ("autoenc", "torch", "torchvision", "hydra-core")},
            "git": _git_revision(),
        }

    def write(self, state: str, error: str | None = None) -> None:
        self.values |= {"state": state, "updated": _now()} | ({"error": error} if error else {})
        write_json(self.path, self.values)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _git_revision() -> str | None:
    """The revision of the code, `-dirty` where files differ from it; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        root = Path(__file__).resolve().parent
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        raise ConfigError("trainer.device", name, "is not available on this machine; use auto or cpu")
    return torch.device(name)


def _peak_memory_mb(device: torch.device) -> float:
    """Of the device where it is a GPU, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@contextlib.contextmanager
def _torch_settings(settings: TrainerSettings) -> Iterator[None]:
    """Settings of the process, put back afterwards: the jobs of a sweep share it."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The seed, set before the model is built; the generators of the caller are put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _claimed(run_dir: Path) -> Iterator[None]:
    """The directory for this process alone. The lock goes with the process, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("run directory", run_dir, "is in use by another process") from None
        yield


@contextlib.contextmanager
def _disk_errors(run_dir: Path) -> Iterator[None]:
    """A disk that takes no more is the user's to mend: one line."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except OSError as error:
        if error.errno in full:
            raise UserError(f"{run_dir}: {os.strerror(error.errno or 0)}; the files written before are whole") from None
        raise
    except RuntimeError as error:  # torch.save has its own words for it
        if isinstance(error.__context__, OSError) and error.__context__.errno in full:
            raise UserError(f"{run_dir}: {os.strerror(error.__context__.errno or 0)}") from None
        raise
