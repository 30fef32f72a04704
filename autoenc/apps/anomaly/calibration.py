"""Normal rows that thresholds follow from: the validation rows, or those of a file."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoenc.apps import inputs
from autoenc.apps.anomaly.conformal import Calibration, chose_the_checkpoint
from autoenc.apps.anomaly.labelled import anomalies_of
from autoenc.apps.anomaly.scores import Detector
from autoenc.data.split import CHUNK, Split
from autoenc.errors import UserError, counted
from autoenc.loading import Run

VALIDATION = "validation rows"
COINCIDENCE = 0.001  # probability of as many repeated rows in unseen data, below which they are not unseen


def validation(detector: Detector) -> Calibration:
    """Return the scores of the validation rows of the run."""
    remark = f"{chose_the_checkpoint(VALIDATION)}; --calibrate names a file of unseen normal rows"
    remedy = "a larger data.val_fraction, or --calibrate with a file of normal rows, gives more"
    return Calibration(detector.validation, VALIDATION, remark, remedy=remedy)


def validation_rows(run: Run, score: str) -> tuple[int, str]:
    """Return the number of validation rows with a score, and what they are."""
    return len(run.reference.val_bound if score == "elbo" else run.reference.val_table), VALIDATION


@dataclass(frozen=True)
class Unseen:
    """Normal rows that a run was not trained on; `source` and `remark` as in `Calibration`."""

    split: Split
    source: str
    remark: str

    @property
    def known(self) -> tuple[int, str]:
        """Their number, and what they are."""
        return len(self.split), self.source

    def scored(self, detector: Detector) -> Calibration:
        """Return their scores."""
        return Calibration(detector.scores(self.split), self.source, self.remark)


def unseen(run: Run, path: str | Path, resize: bool = False) -> Unseen:
    """Return the rows of a file; those labelled as normal, if the data set has such labels or left classes out.

    Raises:
        UserError: no row is normal, or training rows are among them, as far as the run has them in reference.npz.
        DataError: the file cannot be read.
    """
    split = inputs.read(run, path, resize).split
    labels = run.spec.kind.anomalies(Path(path), run.config["data"], anomalies_of(run))
    if labels is not None:
        normal = np.flatnonzero(~np.ma.filled(labels, True).astype(bool))
        if len(normal) < len(split):
            others = counted(len(split) - len(normal), "rows are", len(split))
            warnings.warn(f"--calibrate {path}: {others} not labelled as normal and left out", stacklevel=2)
        if not len(normal):
            raise UserError(f"--calibrate {path}: no row is labelled as normal; name a file with normal rows")
        split = split.subset(torch.from_numpy(normal))
    remark = _check_unseen(run, split, f"--calibrate {path}")
    slash = "/" if Path(path).is_dir() else ""
    return Unseen(split, f"rows of {Path(path).name}{slash}", remark)


def _check_unseen(run: Run, split: Split, what: str) -> str:
    """Raise UserError if training rows are among the rows; return a remark if some training rows are not known.

    Data of few values repeat themselves: as many repetitions are accepted as there are among the training rows.
    """
    from scipy.stats import binom

    known, size = run.reference.rows, run.reference.size
    counts = Counter(_digests(known))
    repeated = sum(count for count in counts.values() if count > 1) / max(len(known), 1)
    seen = sum(digest in counts for digest in _digests(split))
    if seen > binom.ppf(1 - COINCIDENCE, len(split), repeated):
        raise UserError(
            f"{what}: {seen:,} of {len(split):,} rows were trained on, and their scores are too low for a threshold; "
            "name normal rows that the run has not seen"
        )
    if len(known) < size:
        return f"the run stores {len(known):,} of {size:,} training rows; whether others are among these is not known"
    return ""


def _digests(split: Split) -> list[int]:
    """Return a hash of each example, (N,); padding of token ids does not count."""
    if not len(split):
        return []
    return [
        hash(row.tobytes().rstrip(b"\0")) for batch in split.in_order(CHUNK) for row in batch.x.flatten(1).cpu().numpy()
    ]
