"""Optuna's storage of a search: a journal in its folder, which several processes append to."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from autoenc.errors import DataError, one_line
from autoenc.search.plan import Plan

NAME = "journal.log"
STARTUP = 5  # finished trials before one is pruned
KEPT = 75.0  # per cent: the worst quarter is pruned. The median would prune low learning rates that win in the end


def open_studies(plan: Plan) -> dict[str, optuna.Study]:
    """Return the study of each variant, new or as other processes have left it.

    Raises:
        DataError: the journal is damaged.
    """
    path = plan.folder / NAME
    _mend(path)
    pruning = plan.pruning and len(plan.goals) == 1  # Optuna prunes by one metric
    try:
        backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        storage = optuna.storages.JournalStorage(backend)
        return {
            variant.name: optuna.create_study(
                storage=storage,
                study_name=variant.name,
                directions=[goal.direction for goal in plan.goals],
                load_if_exists=True,
                pruner=optuna.pruners.PercentilePruner(KEPT, STARTUP, variant.warmup)
                if pruning
                else optuna.pruners.NopPruner(),
            )
            for variant in plan.variants
        }
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: is damaged ({one_line(error)}); --name starts another search") from None


def _mend(journal: Path) -> None:
    """Remove the last line of a journal if a kill cut it off; Optuna would write on behind it."""
    if not journal.exists():
        return
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()
