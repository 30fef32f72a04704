"""Fit an autoregressive prior to the discrete codes of a run: to the grid of indices of vqvae, fsq, rqvae or binary.

A small causal Transformer over the indices in raster order, and over the depths or bits at each position. It is kept in
the run, where scripts/generate.py finds it. Its nats per example stand beside those of independent indices.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/fit_prior.py RUN
  python scripts/fit_prior.py RUN --epochs 50 --hidden 256 --layers 4
  python scripts/generate.py RUN                            samples from it; --density prior: independent indices

results, in RUN/fit_prior: weights.pt, fit_prior.json (nats per example on validation and test data)
"""


def main(args: argparse.Namespace) -> Results:
    """Fit, write, print."""
    from autoenc import load_run
    from autoenc.apps.generation import index_prior
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import require

    require(args.seed >= 0, "--seed", args.seed, "must be 0 or more")
    run = load_run(args.run, args.device)
    options = {name: getattr(args, name) for name in ("epochs", "hidden", "layers", "lr", "seed")}
    with Outputs(run, index_prior.FOLDER, args.output, args.force) as out:
        fitted = index_prior.fit(run, **options)
        index_prior.save(fitted, run, out.path(index_prior.FILE))
        out.json({**options, "best_epoch": fitted.epochs, **fitted.nats})
    rows = {name: {f"{split}/prior_nll": n[name] for split, n in fitted.nats.items()} for name in fitted.nats["val"]}
    out.table("prior of the indices", rows)
    if len(fitted.model.position) == 1:
        out.say("the code is a single index: the prior is a categorical distribution, its relative frequencies")
    else:
        out.say(f"weights of epoch {fitted.epochs} of at most {args.epochs}, by the validation value")
    if not out.in_run:
        out.say("scripts/generate.py uses the prior in the run directory only; this one was written elsewhere")
    out.say(f"written: {out.folder / index_prior.FILE}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--epochs", type=positive, default=20, help="at most (default: 20)")
    arguments.add_argument("--hidden", type=positive, default=128, help="width of the Transformer (default: 128)")
    arguments.add_argument("--layers", type=positive, default=2, help="default: 2")
    arguments.add_argument("--lr", type=float, default=1e-3, help="learning rate (default: 0.001)")
    arguments.add_argument("--seed", type=int, default=0, help="of weights and order (default: 0)")
    execute(main, arguments)
