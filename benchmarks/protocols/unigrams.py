"""Perplexity per document by the frequencies of the training words: what a bag of words without topics has."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np

from autoenc.loading import load_run


def main() -> None:
    """Write perplexity_per_document: exp of the mean over test documents of the negative log-likelihood per word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    data = load_run(args.run).data
    frequency = data.train.rows().sum(0) + 1.0
    log_p = np.log(frequency / frequency.sum())
    test = data.test.rows()
    nll = -(test @ log_p) / test.sum(1).clip(1)
    args.output.write_text(json.dumps({"perplexity_per_document": math.exp(nll.mean())}))


if __name__ == "__main__":
    main()
