"""Jobs of a protocol in processes of their own, several at a time; each writes its numbers to a JSON file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def last_line(text: str) -> str:
    """Return the line of a program's standard error that names the failure."""
    return text.strip().rpartition("\n")[2] or "no message"


def train(run_dir: Path, overrides: Sequence[str]) -> float:
    """Train a run without figures in a new folder, and return the seconds that it took; SystemExit if it fails."""
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [sys.executable, "train.py", f"hydra.run.dir={run_dir}", "trainer.figures=0", *overrides]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {last_line(done.stderr)}")
    return time.perf_counter() - started


def run(
    script: str,
    jobs: Mapping[str, Sequence[str]],
    folder: Path,
    at_once: int | None,
    described: Callable[[dict[str, Any]], str],
) -> list[dict[str, Any]]:
    """Run a script once for each job, and return the results of those that do not fail.

    Args:
        jobs: name -> arguments. The script writes the result to `folder`/name.json.
        described: what is printed of a result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def job(name: str) -> dict[str, Any] | None:
        command = [sys.executable, script, *jobs[name]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: {last_line(done.stderr)}", file=sys.stderr, flush=True)
            return None
        result: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        print(f"{name}: {described(result)}", flush=True)
        return result

    with ThreadPoolExecutor(at_once) as pool:
        return [result for result in pool.map(job, jobs) if result]
