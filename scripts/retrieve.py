"""Find the training examples whose codes are nearest to a query.

The index of codes is built on the first call and stored in the run (RUN/index/). The search is exact. Without --input,
test examples are the queries, and precision@k and mean average precision are measured if there are labels. Binary codes
are searched by Hamming distance, and compared with random projections of as many bits.
"""

from __future__ import annotations

import argparse
from typing import Any

from autoenc.command import Results, add_input, execute, parser, positive

EXAMPLES = """examples:
  python scripts/retrieve.py RUN                                all test examples: precision@10, mean average precision
  python scripts/retrieve.py RUN --index 5 17 --k 20            these test examples
  python scripts/retrieve.py RUN --input query.png --output hits/
  python scripts/retrieve.py RUN --text "a probe in orbit" "a fast graphics card"

results: retrieve.json, hits.csv (query, rank, row of the training split, score, label; for text data the beginning of
each text), hits.png (queries and hits, for images and series)
"""

SHOWN = 10  # queries whose hits are printed
MAP_QUERIES, MAP_ROWS = 1_000, 20_000  # mean average precision ranks every row for every query


def main(args: argparse.Namespace) -> Results:
    """Search, measure, draw, write."""
    import numpy as np
    import torch

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.codes import hashing, neighbours, retrieve
    from autoenc.apps.outputs import Outputs
    from autoenc.data.split import drawn
    from autoenc.errors import UserError

    given = [option for option in ("input", "index", "text") if getattr(args, option)]
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} both give queries; use one of them")
    run = load_run(args.run, args.device)
    kind, classes = run.spec.kind, run.spec.classes
    if args.text and not kind.texts:
        raise UserError(f"--text: {run.spec.name} is not text data; use --input FILE")
    metric = retrieve.metric_of(run, args.metric)
    labels = None  # of the queries
    if args.input:
        examples = inputs.read(run, args.input, args.resize)
        queries, names = examples.split, examples.names
    elif args.text:
        queries, names = run.inputs(args.text), args.text
    else:
        queries, names = run.data.test, run.data.example_names("test")
        if args.index:
            if wrong := [i for i in args.index if not 0 <= i < len(queries)]:
                raise UserError(f"--index {wrong[0]}: the test split has rows 0 to {len(queries) - 1}")
            queries, names = queries.subset(torch.tensor(args.index)), [names[i] for i in args.index]
        labels = queries.y
    with Outputs(run, "retrieve", args.output, args.force, "".join(given)) as out:
        rows = retrieve.indexed(run)
        index = retrieve.open_index(run, metric, args.force, rows)
        codes = run.codes(queries)
        hits = index.search(codes, args.k)
        numbers: dict[str, float] = {}
        others: dict[str, dict[str, float]] = {}
        y = rows.labels
        if labels is not None and y is not None and len(np.unique(y)) > 1:  # with one class, all hits would be right
            asked = np.flatnonzero(np.isin(labels.cpu().numpy(), y))  # hits of other classes are not wrong
            y_query = labels.cpu().numpy()[asked]
            if len(asked):
                found = neighbours.Hits(hits.positions[asked], hits.scores[asked])
                numbers[f"precision@{args.k}"] = neighbours.precision(found, y, y_query)
                others = retrieve.baseline(run, queries.subset(torch.from_numpy(asked)), y_query, args.k)
            if len(asked) and not args.index:
                some, stored = (drawn(*sizes).numpy() for sizes in ((len(asked), MAP_QUERIES), (len(y), MAP_ROWS)))
                wanted, known = codes[asked[some]], index.codes.numpy()[stored]
                numbers["map"] = neighbours.mean_average_precision(known, y[stored], wanted, y_query[some], metric)
        positions = hits.positions.ravel()
        captions = rows.captions(positions)
        texts = captions or ([str(rows.names[i]) for i in positions.tolist()] if len(rows.names) else None)
        lines: list[list[Any]] = []
        for i, (position, score) in enumerate(zip(positions.tolist(), hits.scores.ravel().tolist(), strict=True)):
            label = "" if y is None else run.spec.class_name(int(y[position]))
            line = [names[i // args.k], i % args.k + 1, int(rows.numbers[position]), f"{score:.6g}", label]
            lines.append(line + ([] if texts is None else [texts[i]]))
        header = ["query", "rank", "row", metric, "label"]
        out.csv("hits", header + ([] if texts is None else ["text" if captions else "name"]), lines)
        image = retrieve.figure(run, queries, names, hits, rows)
        if image is not None:
            out.figure("hits", image)
            inside = hits.positions[retrieve.in_figure(run, len(queries))]
            if missing := int((~rows.shown(inside)).sum()):
                out.say(f"hits.png: {missing} of {inside.size} hits are blank: they are not stored in {run.path}")
        facts = {"queries": len(names), "indexed": len(rows), "k": args.k, "metric": metric}
        hashes = hashing.compare(run, run.known_test(), args.k) if metric == "hamming" and not given else {}
        out.json({**facts, **numbers, **others} | ({"hashing": hashes} if hashes else {}))
    if len(names) <= SHOWN:
        width = max((len(name) for name in classes), default=0)
        titles = kind.captions(queries) or [f"query {name}" for name in names]
        for i, (_, rank, row, score, label, *text) in enumerate(lines):
            if rank == 1:
                out.say(f"\n{titles[i // args.k]}")
            out.say(f"  {rank:>3}.  {metric} {float(score):.3f}  {label:<{width}}  row {row:<7} {''.join(text)}")
    out.table("retrieval", {run.name: numbers} | others if numbers else {})
    out.table("binary codes as hashes", hashes)
    if run.given_labels:
        out.say("precision is not measured: the codes are computed from the labels, and would predict them")
    out.say(f"{len(names):,} queries in {len(rows):,} training examples; all hits: {out.folder / 'hits.csv'}")
    return out.summary | (
        {"hits": [dict(zip(header, line, strict=False)) for line in lines]} if len(names) <= SHOWN else {}
    )


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    add_input(arguments, "queries")
    arguments.add_argument("--text", nargs="+", metavar="TEXT", help="queries, for runs on text data")
    arguments.add_argument("--index", type=int, nargs="+", metavar="I", help="test examples as queries")
    arguments.add_argument("--k", type=positive, default=10, help="hits for each query (default: 10)")
    arguments.add_argument(
        "--metric", choices=("cosine", "euclidean", "hamming"), help="default: cosine, or hamming for binary codes"
    )
    execute(main, arguments)
