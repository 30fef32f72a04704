"""Write the codes of a data set or of a file: features for another model.

Without --input: all three splits of the run's own data, with labels. --probe also says how good they are as features:
accuracy of logistic regression and nearest neighbours on the codes, on as many principal components and on raw input.
"""

from __future__ import annotations

import argparse

from autoenc.command import execute, parser

EXAMPLES = """examples:
  python scripts/embed.py RUN                                  codes of training, validation and test examples
  python scripts/embed.py RUN --input new.npy --output codes/  codes of a file of yours
  python scripts/embed.py RUN --format csv --probe

results: embed.json; codes.npz with z_train, y_train, z_val ... (of a file: z, names), or a CSV for each split
"""


def main(args: argparse.Namespace) -> None:
    """Encode, perhaps probe, write."""
    import numpy as np

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    if args.probe and args.input:
        raise UserError("--probe is of the run's own data; leave --input out")
    run = load_run(args.run, args.device)
    with Outputs(run, "embed", args.output, args.force) as out:
        if args.input:
            found = inputs.read(run, args.input, args.resize)
            tables = {"": (run.codes(found.split), np.array(found.names), "name")}
        else:
            data, classes = run.data, np.array(run.spec.classes)
            tables = {}
            for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
                y = np.arange(len(split)) if split.y is None else split.y.cpu().numpy()
                tables[f"_{name}"] = (run.codes(split), y if split.y is None else classes[y], "label")
                if split.y is None:
                    tables[f"_{name}"] = (run.codes(split), y, "row")
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
    out.table("test accuracy", numbers)
    out.say(f"{sum(rows.values()):,} codes of {run.latent_dim} numbers in {out.folder}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--input", metavar="PATH", help="new data: .csv .parquet .txt .npy .npz, an image, a folder")
    arguments.add_argument("--resize", action="store_true", help="scale images to the size that the run was trained on")
    arguments.add_argument("--format", choices=("npz", "csv"), default="npz", help="default: npz")
    arguments.add_argument("--probe", action="store_true", help="measure the codes as features; needs labels")
    execute(main, arguments)
