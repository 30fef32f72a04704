"""The network of a run with its initial weights: the baseline of every number that training should have improved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from autoenc import build
from autoenc.loading import Run
from autoenc.reference import row_table
from autoenc.seeds import seeded
from autoenc.start import start_prior

NAME = "untrained"  # of its rows in tables


def untrained(run: Run) -> Run:
    """Return the run before its first step: weights drawn with its seed, the initial reconstruction the mean of data.

    Its `reference` has the codes and errors of the initial weights for the rows that can be read, without scores of
    validation rows; weights of another run (`init_from`) are not loaded. The training files are not needed.
    """
    kind, rows = run.spec.kind, run.reference_rows()
    with seeded(run.config["seed"], run.device):
        model = build.build_model(run.config, run.spec, rows.mean().cpu() if kind.continuous else None)
        start_prior(model.to(run.device), rows, run.batch_size, run.device)
    initial = Run(run.path, model, run.config, run.spec, run.record, run.device)
    table = initial.over(rows, lambda batch: row_table(initial.model, kind, batch)).numpy()
    whole = run.reference
    if len(rows) < len(whole):  # those that are stored
        at = whole.row_index
        labels = None if whole.labels is None else whole.labels[at]
        names, captions = (each[at] if len(each) else each for each in (whole.names, whole.captions))
        row_index = np.arange(len(at))
        whole = replace(
            whole, index=whole.index[at], labels=labels, names=names, captions=captions, row_index=row_index
        )
    none = whole.val_table[:0]
    initial.reference = replace(whole, train_table=table, val_table=none, val_mse=none[:, 0])
    return initial


def remark(better: Mapping[str, bool]) -> str:
    """Return in words which numbers are better than those of the untrained network.

    Args:
        better: number -> whether it is better by more than its sampling error, see `metrics.exceeds`.
    """
    worse = [name for name, value in better.items() if not value]
    if worse:
        return f"no better than an untrained network (95% interval of the difference): {', '.join(worse)}"
    return f"better than an untrained network (95% interval of the difference): {', '.join(better)}" if better else ""
