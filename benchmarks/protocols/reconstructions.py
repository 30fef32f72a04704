"""Reconstructions of validation images of a run as a set, beside validation images themselves: sharpness, Frechet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from autoenc import load_run
from autoenc.apps.generation import classifier
from autoenc.apps.generation.quality import quality, size


def main() -> None:
    """Reconstruct, compare with test images, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    x = run.data.val.sample(size(run)).take(slice(None)).x.cpu().numpy()
    numbers = quality(run, {"reconstructions": run.reconstruct(x)}, classifier.load(run))
    args.output.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
