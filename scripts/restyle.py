"""Draw examples in other styles: in every class, or moved from one class towards another.

Without --from-class, the code of each example, its style, is decoded with every class (conditional models: model=cvae,
model=m2). With it, the difference of the mean codes of two classes is added to the codes, with several strengths.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autoenc.command import add_input, execute, parser

if TYPE_CHECKING:
    from autoenc.data.split import Split
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/restyle.py RUN                                     test examples in every class
  python scripts/restyle.py RUN --examples 3 17 42
  python scripts/restyle.py RUN --input digits/ --class 3 5 5       files, with their classes
  python scripts/restyle.py RUN --from-class 3 --to-class 8         any model with a code: a strip of strengths
  python scripts/restyle.py RUN --from-class 3 --to-class 8 --strengths -1 0 1 2

results, in RUN/restyle/classes or RUN/restyle/attribute: restyle.json, restyle.npz, restyle.png (other data: .csv)
restyle.json has the fraction of examples that a classifier takes for the wanted class, once
scripts/train_classifier.py has trained it, and how well a second encoding returns the code
"""
SHOWN = 8  # examples
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def main(args: argparse.Namespace) -> None:
    """Restyle, draw, measure, write."""
    from autoenc import load_run
    from autoenc.apps.generation import classifier, generate
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing import restyle

    check(args)
    run = load_run(args.run, args.device)
    task = "classes" if args.from_class is None else "attribute"
    with Outputs(run, "restyle", args.output, args.force, task) as out:
        judge = classifier.load(run) if run.spec.kind.continuous else None
        facts: dict[str, Any]
        if task == "classes":
            restyle.check_conditional(run)
            split, facts = given(run, args)
            found = restyle.by_class(run, split)
            facts["numbers"] = restyle.class_quality(run, judge)
        else:
            vector, strengths = restyle.attribute(run, args.from_class, args.to_class), args.strengths or STRENGTHS
            split, facts = given(run, args, vector.a)
            facts |= {"from": args.from_class, "to": args.to_class, "strengths": list(strengths)}
            found = restyle.by_attribute(run, split, vector, strengths)
            facts["numbers"] = restyle.attribute_quality(run, vector, strengths, judge)
        generate.keep(run, out, found, found.z.shape[1])
        out.json(facts | ({"classifier": judge.accuracy} if judge else {}))
        out.table(f"test examples, {'in other classes' if task == 'classes' else 'moved'}", facts["numbers"])
        if judge is None and run.spec.kind.continuous:
            out.say(f"restyle_accuracy is not measured: first python scripts/train_classifier.py {run.path}")
    out.say(f"results: {out.folder}")


def check(args: argparse.Namespace) -> None:
    """Raise UserError for options that have no effect together."""
    from autoenc.errors import UserError

    if (args.from_class is None) != (args.to_class is None):
        raise UserError("--from-class and --to-class: give both, or neither")
    if args.strengths and args.from_class is None:
        raise UserError("--strengths: is for --from-class A --to-class B")
    if args.classes and args.from_class is not None:
        raise UserError("--class: is not for --from-class, whose examples may be of any class")
    if args.examples and args.input:
        raise UserError("--examples: test examples, and --input, files; give one of them")
    for option in ("classes", "resize"):
        if getattr(args, option) and not args.input:
            raise UserError(f"--{'class' if option == 'classes' else option}: is for --input")


def given(run: Run, args: argparse.Namespace, label: int | None = None) -> tuple[Split, dict[str, Any]]:
    """Return the examples to draw, and what restyle.json says about them.

    Args:
        label: class of the test examples that are drawn by default; None: any.
    """
    from autoenc.apps import inputs
    from autoenc.apps.seeing import restyle
    from autoenc.data.split import Split
    from autoenc.errors import UserError

    if args.input:
        examples = inputs.read(run, args.input, args.resize)
        count, y = len(examples.split), None
        if args.classes:
            if len(args.classes) not in (1, count):
                raise UserError(f"--class: one class for all {count} examples of --input, or one for each")
            y = run.labels(args.classes * (count // len(args.classes)), count)
        elif run.given_labels:
            raise UserError(f"--input: {run.path} reads the class of each example; add --class NAME")
        return Split(examples.split.x, y, examples.split.scale), {"input": args.input, "examples": examples.names}
    if args.examples:
        return inputs.examples(run, args.examples), {"examples": args.examples}
    split = run.examples.sample(SHOWN) if label is None else restyle.of_class(run, label, SHOWN)
    return split, {"examples": f"{len(split)} test examples"}


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    add_input(arguments, "examples in files")
    arguments.add_argument(
        "--examples", type=int, nargs="+", metavar="N", help=f"test examples, 0 ... (default: {SHOWN})"
    )
    arguments.add_argument("--class", dest="classes", nargs="+", metavar="NAME", help="classes of --input, all or each")
    arguments.add_argument("--from-class", metavar="A", help="class whose mean code is subtracted")
    arguments.add_argument("--to-class", metavar="B", help="class whose mean code is added")
    strengths = " ".join(f"{strength:g}" for strength in STRENGTHS)
    arguments.add_argument(
        "--strengths", type=float, nargs="+", metavar="S", help=f"factors of the difference (default: {strengths})"
    )
    execute(main, arguments)
