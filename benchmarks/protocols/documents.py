"""Perplexity per document of the words of texts: of their frequencies, and of latent Dirichlet allocation."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from sklearn.decomposition import LatentDirichletAllocation

from autoenc.loading import load_run


def lda_nll(train: np.ndarray, test: np.ndarray, topics: int, seed: int) -> np.ndarray:
    """Return the bound on -log p(x) of each test document by latent Dirichlet allocation, in nats (Blei et al. 2003).

    The bound of `score` holds a term of the topics, which every document has in common; it is that of a document
    without words.
    """
    lda = LatentDirichletAllocation(topics, learning_method="online", max_iter=40, batch_size=256, random_state=seed)
    lda.fit(train)
    common = lda.score(np.zeros_like(test[:1]))
    return common - np.array([lda.score(document[None]) for document in test])


def main() -> None:
    """Write the perplexities: exp of the mean over test documents of the negative log-likelihood per word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--topics", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    data = load_run(args.run).data
    train, test = (np.asarray(part.rows(), dtype=float) for part in (data.train, data.test))
    frequency = train.sum(0) + 1.0
    nll = {
        "frequencies": -(test @ np.log(frequency / frequency.sum())),
        "lda": lda_nll(train, test, args.topics, args.seed),
    }
    words = test.sum(1).clip(1)
    args.output.write_text(json.dumps({name: math.exp((values / words).mean()) for name, values in nll.items()}))


if __name__ == "__main__":
    main()
