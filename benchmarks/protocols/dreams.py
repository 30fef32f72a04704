"""How well the dreams of the units of a linear encoder find their filters, which are known: mean correlations.

Beside the dreams stand the noise that they start from and the training example that excites each unit most.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autoenc import load_run
from autoenc.apps.seeing import dream, units

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    settings = replace(dream.Settings.usual(run.spec.shape, image=False), seed=args.seed)
    bottleneck: Any = run.model.bottleneck
    filters = bottleneck.linear.weight.detach().cpu().numpy()
    numbers = list(range(len(filters)))
    dreamt = dream.dreams(run, "code", numbers, settings)
    best = [u for u in units.units(run, numbers, examples=1) if len(u.positions)]
    rows = run.reference.rows.rows()

    def correlation(unit: int, x: np.ndarray) -> float:
        return float(np.corrcoef(filters[unit], x.ravel())[0, 1])

    dreams = [correlation(k, x) for k, x in enumerate(dreamt.x.numpy())]
    found = {
        "dreams": float(np.mean(dreams)),
        "lowest": float(np.min(dreams)),
        "noise": float(np.mean([abs(correlation(k, dreamt.start.numpy())) for k in numbers])),
        "best_example": float(np.mean([correlation(u.number, rows[u.positions[0]]) for u in best])),
        "raised": float(np.mean(dreamt.end > dreamt.begin)),
    }
    Path(args.output).write_text(json.dumps(found, indent=2) + "\n")
