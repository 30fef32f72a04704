"""Write the codes of a data set or of a file: features for another model.

Without --input: the three splits of the run's data set, with labels. --probe also measures the codes as features:
accuracy of logistic regression and nearest neighbours on codes, as many principal components and raw input.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, add_input, execute, parser

EXAMPLES = """examples:
  python scripts/embed.py RUN                                  codes of training, validation and test examples
  python scripts/embed.py RUN --input new.npy --output codes/  codes of new data
  python scripts/embed.py RUN --format csv --probe
  python train.py model=m2 data=arrays data.path=RUN/embed/codes.npz labels=100    train on the codes (M1+M2)

results: embed.json; codes.npz with z_train, y_train, z_val, ... (for --input: z, names), or a CSV for each split
"""


def main(args: argparse.Namespace) -> Results:
    """Encode, probe on request, write."""
    import numpy as np

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    if args.probe and args.input:
        raise UserError("--probe needs the data set of the run; it cannot be combined with --input")
    run = load_run(args.run, args.device)
    new = inputs.read(run, args.input, args.resize) if args.input else None
    with Outputs(run, "embed", args.output, args.force, "input" if args.input else "probe" * args.probe) as out:
        if new is not None:
            tables = {"": (run.codes(new.split), np.array(new.names), "name")}
        else:
            data = run.data
            tables = {}
            for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
                notes, kind = np.arange(len(split)), "row"
                if split.y is not None:
                    notes, kind = np.array([run.spec.class_name(i) for i in split.y.tolist()]), "label"
                tables[f"_{name}"] = (run.codes(split), notes, kind)
        if args.format == "npz":
            keys = {"label": "y", "row": "row", "name": "names"}
            arrays = {f"z{s}": z for s, (z, _, _) in tables.items()}
            out.npz("codes", **arrays, **{f"{keys[kind]}{s}": notes for s, (_, notes, kind) in tables.items()})
        else:
            for suffix, (z, notes, kind) in tables.items():
                header = [kind, *(f"z{i}" for i in range(z.shape[1]))]
                out.csv(f"codes{suffix}", header, ([n, *row] for n, row in zip(notes, z.tolist(), strict=True)))
        numbers = {}
        if args.probe:
            from autoenc.apps.codes import features

            numbers = features.probe(features.representations(run), *features.need_labels(run))
        rows = {suffix.strip("_") or "input": len(z) for suffix, (z, _, _) in tables.items()}
        out.json({"latent_dim": run.latent_dim, "rows": rows} | ({"probe": numbers} if numbers else {}))
    remark = numbers.pop("remark", "")
    out.table("test accuracy", numbers, remark)
    out.say(f"{sum(rows.values()):,} codes of {run.latent_dim} values in {out.folder}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    add_input(arguments)
    arguments.add_argument("--format", choices=("npz", "csv"), default="npz", help="default: npz")
    arguments.add_argument("--probe", action="store_true", help="measure the codes as features; needs labels")
    execute(main, arguments)
