"""Show codes in two or three dimensions: directly, by PCA, t-SNE or UMAP.

Test examples, or new data with --input. Also writes the codes, with labels and images, for TensorBoard's projector.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, add_input, execute, parser, positive

EXAMPLES = """examples:
  python scripts/project.py RUN                        2,000 test examples by t-SNE
  python scripts/project.py RUN --method pca --dim 3
  python scripts/project.py RUN --method umap          needs: pip install umap-learn

results: project.json (trustworthiness and agreement of labels among neighbours, k = 10), points.csv, METHOD.png;
in RUN/project/, of other calls in RUN/project/pca/, RUN/project/umap_3d_input/ ...
"""


def main(args: argparse.Namespace) -> Results:
    """Project, measure, draw, write."""
    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.codes import project
    from autoenc.apps.outputs import Outputs
    from autoenc.data.split import drawn

    run = load_run(args.run, args.device)
    kind = [args.method] * (args.method != "tsne") + ["3d"] * (args.dim == 3) + ["input"] * bool(args.input)
    if args.input:
        new = inputs.read(run, args.input, args.resize)
        split, names = new.split, new.names
        if len(split) > args.count:
            index = drawn(len(split), args.count)
            split, names = split.subset(index), [names[i] for i in index.tolist()]
    else:
        index, names = drawn(len(run.data.test), args.count), run.data.example_names("test")
        split, names = run.data.test.sample(args.count), [names[i] for i in index.tolist()]
    with Outputs(run, "project", args.output, args.force, "_".join(kind)) as out:
        projection = project.project(run, split, args.method, args.dim, args.seed)
        source = "new data" if args.input else "the test split"
        title = f"{len(split):,} codes of {source}, {args.method}: {run.name} on {run.spec.name}"
        out.figure(args.method, project.figure(run.spec, split, projection, title))
        labels = None if split.y is None else [run.spec.class_name(i) for i in split.y.tolist()]
        header = ["name", *(f"x{i}" for i in range(args.dim)), *(["label"] if labels else [])]
        columns = [names, *projection.points.T.tolist(), *([labels] if labels else [])]
        out.csv("points", header, zip(*columns, strict=True))
        out.embedding(run.codes(split), labels, split)
        out.json({"method": args.method, "dim": args.dim, "examples": len(split), **projection.numbers})
    out.table("projection", {args.method: projection.numbers})
    out.say(f"{len(split):,} examples: {out.folder / args.method}.png; projector: tensorboard --logdir {run.path}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--method", choices=("direct", "pca", "tsne", "umap"), default="tsne", help="default: tsne")
    arguments.add_argument("--dim", type=int, choices=(2, 3), default=2, help="default: 2")
    arguments.add_argument("--count", type=positive, default=2_000, help="examples at most (default: 2000)")
    add_input(arguments)
    arguments.add_argument("--seed", type=int, default=0, help="seed of t-SNE and UMAP (default: 0)")
    execute(main, arguments)
