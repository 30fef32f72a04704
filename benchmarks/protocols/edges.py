"""How well Gabor functions fit the columns of the decoder of a run on image patches: sparse codes are edges.

Each column, and each of as many principal components, is projected on the pair of even and odd Gabor functions of every
position, orientation, frequency and width of a bank; the fit is the largest fraction of its energy in one pair
(Olshausen & Field 1996 show such columns; the fit is ours). Medians over the columns that are in use.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from autoenc import load_run
from autoenc.apps.untrained import untrained
from autoenc.loading import Run


def bank(size: int) -> np.ndarray:
    """Return orthonormal pairs of an even and an odd Gabor function: (G, 2, size^2)."""
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    centres, angles = np.linspace(-0.35, 0.35, 7) * size, np.arange(12) * np.pi / 12
    pairs = []
    for cy, cx, angle, cycles, width in itertools.product(
        centres, centres, angles, (0.1, 0.17, 0.25, 0.35), (1.2, 2.0)
    ):
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        window = np.exp(-(along**2 + (across / 1.5) ** 2) / (2 * width**2))
        waves = np.stack([(window * wave(2 * np.pi * cycles * along)).ravel() for wave in (np.cos, np.sin)])
        pairs.append(np.linalg.qr((waves - waves.mean(1, keepdims=True)).T)[0].T)
    return np.stack(pairs)


def fit(columns: np.ndarray, gabors: np.ndarray) -> float:
    """Return the median over columns (N, D) of the largest fraction of the energy in one pair."""
    centred = columns - columns.mean(1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    energy = np.square(np.einsum("nd,gpd->ngp", unit, gabors)).sum(-1)
    return float(np.median(energy.max(1)))


def columns(run: Run) -> np.ndarray:
    """Return what each unit in use adds to the reconstruction: (N, D)."""
    used = np.abs(run.codes(run.data.test)).max(0) > 1e-3
    zero = torch.zeros(1, run.latent_dim, device=run.device)
    with torch.no_grad():
        params = run.model.decode(torch.eye(run.latent_dim, device=run.device)) - run.model.decode(zero)
    return params.flatten(1).cpu().numpy()[used]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    gabors = bank(run.spec.shape[-1])
    components = PCA(run.spec.shape[-1] ** 2 - 1).fit(run.data.train.rows()).components_
    found = {"codes": columns(run), "untrained": columns(untrained(run)), "pca": components}
    numbers = {name: fit(rows, gabors) for name, rows in found.items()}
    Path(args.output).write_text(json.dumps(numbers, indent=2) + "\n")
