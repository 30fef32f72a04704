"""Find the training examples whose codes are nearest to a query.

The index of codes is built at the first call and kept in the run (RUN/index/). Search is exact. Without --input, test
examples are the queries, and precision@k and mean average precision are measured where there are labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from autoenc.command import execute, parser, positive

EXAMPLES = """examples:
  python scripts/retrieve.py RUN                                all test examples: precision@10, mean average precision
  python scripts/retrieve.py RUN --index 5 17 --k 20            these test examples
  python scripts/retrieve.py RUN --input query.png --output hits/
  python scripts/retrieve.py RUN --text "a probe in orbit" "a fast graphics card"

results: retrieve.json, hits.csv (query, rank, row of the training split, score, label; of texts, their beginnings),
hits.png (query | hits; of images)
"""

SHOWN = 10  # queries whose hits are printed
MAP_QUERIES, MAP_ROWS = 1_000, 20_000  # mean average precision ranks every row for every query


def main(args: argparse.Namespace) -> None:
    """Search, measure, draw, write."""
    import torch

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.codes import retrieve
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    given = [option for option in ("input", "index", "text") if getattr(args, option)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} are both queries; give one of them")
    run = load_run(args.run, args.device)
    if args.text and not run.spec.kind.texts:
        raise UserError(f"--text: {run.spec.name} is no text; --input takes a file")
    train, classes = retrieve.indexed(run), run.spec.classes
    width = max((len(name) for name in classes), default=0)
    with Outputs(run, "retrieve", args.output, args.force) as out:
        told: Sequence[Any] | None = run.reference.names.tolist() or None  # what the user calls the hits
        if len(train) > len(run.reference):
            told = run.data.names.get("train")
        if args.input:
            given_rows = inputs.read(run, args.input, args.resize)
            queries, names, labels = given_rows.split, given_rows.names, None
        elif args.text:
            queries, names, labels = run.inputs(args.text), args.text, None
        else:
            queries = test = run.data.test
            names, labels = run.data.example_names("test"), test.y
        if args.index:
            if wrong := [i for i in args.index if not 0 <= i < len(test)]:
                raise UserError(f"--index {wrong[0]}: the test split has rows 0 to {len(test) - 1}")
            queries, names = test.subset(torch.tensor(args.index)), [names[i] for i in args.index]
            labels = queries.y
        hits = retrieve.retrieve(run, queries, args.k, args.metric, args.force)
        numbers: dict[str, float] = {}
        others: dict[str, dict[str, float]] = {}
        if labels is not None and train.y is not None and len(train.y.unique()) > 1:  # of one class, all would be right
            y, y_query = train.y.cpu().numpy(), labels.cpu().numpy()
            numbers[f"precision@{args.k}"] = retrieve.precision(hits, y, y_query)
            others = retrieve.baseline(run, queries, y_query, args.k)
            if not args.index:
                rows, some = slice(0, MAP_ROWS), queries.subset(slice(0, MAP_QUERIES))
                codes, sought = run.codes(train.subset(rows)), run.codes(some)
                numbers["map"] = retrieve.mean_average_precision(codes, y[rows], sought, y_query[:MAP_QUERIES])

        def label(row: int) -> str:
            return "" if train.y is None else classes[int(train.y[row])]

        texts = retrieve.told(run, train) or (None if told is None else [str(name) for name in told])
        numbered = retrieve.row_numbers(run, train)
        lines = [
            (names[q], rank + 1, int(numbered[row]), f"{score:.6g}", label(row), *([texts[row]] if texts else []))
            for q in range(len(hits.places))
            for rank, (row, score) in enumerate(zip(hits.places[q].tolist(), hits.scores[q].tolist(), strict=True))
        ]
        header = ["query", "rank", "row", args.metric, "label"]
        out.csv("hits", header + ([] if texts is None else ["text" if told is None else "name"]), lines)
        if run.spec.kind.images:
            out.figure("hits", retrieve.picture(run, queries, names, hits))
        found = {"queries": len(names), "indexed": len(train), "k": args.k, "metric": args.metric}
        out.json({**found, **numbers, **others})
    if len(names) <= SHOWN and texts:
        for place, name in enumerate(retrieve.told(run, queries) or names):
            out.say(f"\n{name}")
            for _, rank, row, score, kind, text in lines[place * args.k : (place + 1) * args.k]:
                out.say(f"  {rank:>3}.  {args.metric} {float(score):.3f}  {kind:<{width}}  row {row:<7} {text}")
    elif len(names) <= SHOWN:
        for line in lines:
            out.say(f"query {line[0]}  {line[1]:>3}.  row {line[2]:<7} {args.metric} {line[3]:<10} {line[4]}")
    out.table("retrieval", {run.name: numbers} | others if numbers else {})
    out.say(f"{len(names):,} queries in {len(train):,} training examples; every hit: {out.folder / 'hits.csv'}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument(
        "--input", metavar="PATH", help="queries of yours: .csv, .parquet, .txt, .npy, .npz, an image, a folder"
    )
    arguments.add_argument("--text", nargs="+", metavar="TEXT", help="queries of yours, for runs on texts")
    arguments.add_argument("--resize", action="store_true", help="scale images to the size that the run was trained on")
    arguments.add_argument("--index", type=int, nargs="+", metavar="I", help="test examples as queries")
    arguments.add_argument("--k", type=positive, default=10, help="hits for each query (default: 10)")
    arguments.add_argument("--metric", choices=("cosine", "euclidean"), default="cosine", help="default: cosine")
    execute(main, arguments)
