"""Settings of training, typed and range-checked. Imports neither torch nor Hydra, so that `--help` is fast."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoenc.errors import require

LARGEST = 2**31
LENGTH = ("trainer.epochs", "trainer.steps", "trainer.patience")  # keys that may change when a run resumes
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("32", "bf16")
LR_SCHEDULES = ("constant", "cosine", "staged", "plateau")


@dataclass
class TrainerSettings:
    """The settings under `trainer.`; configs/trainer/default.yaml has a comment on each."""

    epochs: int = 30
    steps: int | None = None
    batch_size: int = 128
    eval_batch_size: int = 500
    evaluate_every: int = 1
    figures: int = 5
    lr_schedule: str = "constant"
    warmup: float = 0.0
    plateau_patience: int = 5
    plateau_factor: float = 0.5
    clip: float | None = None
    monitor: str = "loss"
    patience: int | None = None
    device: str = "auto"
    precision: str = "32"
    compile: bool = False
    profile: bool = False
    deterministic: bool = False
    threads: int | None = None
    replicas: int | None = None

    def __post_init__(self) -> None:
        for key in ("epochs", "batch_size", "eval_batch_size", "evaluate_every", "plateau_patience"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "must be 1 or more")
        for key in ("steps", "patience", "threads", "replicas"):
            require(getattr(self, key) is None or getattr(self, key) >= 1, key, getattr(self, key), "must be 1 or more")
        for key in ("steps", "epochs", "batch_size", "eval_batch_size", "evaluate_every", "patience", "figures"):
            require((getattr(self, key) or 0) < LARGEST, key, getattr(self, key), f"must be below {LARGEST:,}")
        require((self.threads or 0) <= 1024, "threads", self.threads, "must be at most 1024; null: one for each core")
        require((self.replicas or 0) <= 1024, "replicas", self.replicas, "must be at most 1024")
        require(self.figures >= 0, "figures", self.figures, "must be 0 or more")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "must lie in [0, 1): a fraction of the training steps")
        require(0 < self.plateau_factor < 1, "plateau_factor", self.plateau_factor, "must lie between 0 and 1")
        require(self.clip is None or 0 < self.clip < math.inf, "clip", self.clip, "must be above 0")
        for key, choices in (("device", DEVICES), ("precision", PRECISIONS), ("lr_schedule", LR_SCHEDULES)):
            require(getattr(self, key) in choices, key, getattr(self, key), f"must be one of {', '.join(choices)}")

    def total_steps(self, num_train: int) -> int:
        """Return the number of optimizer steps of the run."""
        return self.steps or self.epochs * self.steps_per_epoch(num_train)

    def steps_per_epoch(self, num_train: int) -> int:
        """Return the number of batches of `split.shuffled_indices`."""
        steps, rest = divmod(num_train, self.batch_size)
        return max(1, steps + (rest > 1))
