"""A search from its plan to its exit code."""

from __future__ import annotations

import shutil
import signal
import sys
from typing import Any

from autoenc.command import DONE, FAILED
from autoenc.errors import Interrupted, UserError
from autoenc.search.plan import Plan
from autoenc.text import printable


def run(plan: Plan) -> tuple[int, dict[str, Any]]:
    """Run a search, show the result, and return exit code and result: 1 if a variant has no finished trial.

    Raises:
        UserError: config or data are invalid, or Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("scripts/search.py: needs optuna: pip install 'optuna>=5'") from None
    from autoenc.search.result import show
    from autoenc.search.study import Search

    new = not plan.folder.exists()
    search = Search(plan, lambda line: print(printable(line), flush=True))
    try:
        search.run()
        if plan.seeds and not search.running():
            search.repeat()
    except UserError:
        if new and not any(plan.folder.glob("*/*/checkpoints/*.pt")):
            shutil.rmtree(plan.folder, ignore_errors=True)
        raise
    except (Interrupted, KeyboardInterrupt) as error:
        print("interrupted; the same command continues the search", file=sys.stderr)
        return 128 + (error.signum if isinstance(error, Interrupted) else signal.SIGINT), {}
    results = show(search)
    return DONE if all(found["best"] for found in results["variants"].values()) else FAILED, results
