"""Fit the autoregressive prior to indices of a Markov chain, whose entropy is known."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from autoenc.apps.generation.index_prior import fit_indices

LENGTH, SYMBOLS, ROWS = 16, 8, 12_000


def main() -> None:
    """Write -log p of test sequences [nats]: the fitted and the independent prior, the chain, its stationary values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    step = (2 * torch.randn(SYMBOLS, SYMBOLS, dtype=torch.float64)).softmax(1)  # p(next | present)
    stationary = torch.linalg.matrix_power(step, 1_000)[0]
    index = torch.multinomial(stationary, ROWS, replacement=True)[:, None]
    for _ in range(LENGTH - 1):
        index = torch.cat([index, torch.multinomial(step[index[:, -1]], 1)], 1)
    splits = dict(zip(("train", "val", "test"), index.split([ROWS - 4_000, 2_000, 2_000]), strict=True))
    nats = fit_indices(splits, SYMBOLS, hidden=32, layers=1, lr=3e-3, seed=args.seed).nats["test"]
    test = splits["test"]
    log_p = stationary[test[:, 0]].log() + step[test[:, :-1], test[:, 1:]].log().sum(1)
    exact = {"chain": -float(log_p.mean()), "stationary": -float(stationary[test].log().sum(1).mean())}
    args.output.write_text(json.dumps(nats | exact))


if __name__ == "__main__":
    main()
