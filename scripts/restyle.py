"""Draw examples in other styles: in every class, moved from one class towards another, or in the style of an image.

By default, the code of each example, its style, is decoded with every class (conditional models: model=cvae, model=m2).
--from-class adds the difference of the mean codes of two classes to the codes, with several strengths. --content
optimizes an image for the features of one image and the Gram matrices of another (Gatys et al. 2016).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autoenc.command import Results, add_input, execute, parser, positive

if TYPE_CHECKING:
    from autoenc.apps.outputs import Outputs
    from autoenc.data.split import Split
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/restyle.py RUN                                     test examples in every class
  python scripts/restyle.py RUN --examples 3 17 42
  python scripts/restyle.py RUN --input digits/ --class 3 5 5       files, with their classes
  python scripts/restyle.py RUN --from-class 3 --to-class 8         any model with a code: a strip of strengths
  python scripts/restyle.py RUN --from-class 3 --to-class 8 --strengths -1 0 1 2
  python scripts/restyle.py RUN --content cat.png --style waves.png stones.png --style-weight 3     images, network=conv

results, in RUN/restyle/classes, attribute or images: restyle.json, restyle.png (other data: .csv), restyle.npz or, of
--content, each image as .png. restyle.json has the fraction of examples that a classifier takes for the wanted class,
once scripts/train_classifier.py has trained it, and how well a second encoding returns the code; or the losses
"""
SHOWN = 8  # examples
SETTINGS = ("content_layer", "style_layers", "style_weight", "variation_weight", "steps")
# Task -> the option that chooses it, and those that only some tasks have.
KEYS = {"classes": "", "attribute": "from_class", "images": "content"}
OPTIONS: dict[str, tuple[str, ...]] = {
    "classes": ("examples", "input", "classes"),
    "attribute": ("examples", "input", "strengths"),
    "images": SETTINGS,
}
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def main(args: argparse.Namespace) -> Results:
    """Restyle, draw, measure, write."""
    task = check(args)
    from autoenc import load_run

    run = load_run(args.run, args.device)
    out = (optimize if task == "images" else decode)(run, args, task)
    out.say(f"results: {out.folder}")
    return out.summary


def decode(run: Run, args: argparse.Namespace, task: str) -> Outputs:
    """Decode the codes of examples with every class, or moved along the difference of two."""
    from autoenc.apps.generation import classifier, generate
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing import restyle

    judge = classifier.load(run) if run.spec.kind.continuous else None
    vector, strengths = None, args.strengths or STRENGTHS
    if args.from_class is None:
        restyle.check_conditional(run)
        split, facts = given(run, args)
    else:
        vector = restyle.attribute(run, args.from_class, args.to_class)
        split, facts = given(run, args, vector.a)
        facts |= {"from": args.from_class, "to": args.to_class, "strengths": list(strengths)}
    with Outputs(run, "restyle", args.output, args.force, task) as out:
        if vector is None:
            found, numbers = restyle.by_class(run, split), restyle.class_quality(run, judge)
        else:
            found = restyle.by_attribute(run, split, vector, strengths)
            numbers = restyle.attribute_quality(run, vector, strengths, judge)
        generate.keep(run, out, found, found.z.shape[1])
        out.json(facts | {"numbers": numbers} | ({"classifier": judge.accuracy} if judge else {}))
    out.table(f"test examples, {'in other classes' if args.from_class is None else 'moved'}", numbers)
    if judge is None and run.spec.kind.continuous:
        out.say(f"restyle_accuracy is not measured: first python scripts/train_classifier.py {run.path}")
    return out


def optimize(run: Run, args: argparse.Namespace, task: str) -> Outputs:
    """Give each image of --content the style of each of --style."""
    import numpy as np
    import torch

    from autoenc.apps import inputs
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing import neural_style
    from autoenc.figures import titled

    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    settings = neural_style.Settings(**given)
    layers = neural_style.chosen_layers(run, settings)
    contents, styles = (
        torch.cat([inputs.one_image(run, text, option, args.resize).take(slice(None)).x for text in texts])
        for option, texts in (("--content", args.content), ("--style", args.style_of))
    )
    with Outputs(run, "restyle", args.output, args.force, task) as out:
        found = [[neural_style.stylized(run, content, style, settings) for style in styles] for content in contents]
        x = np.stack([[result.x for result in row] for row in found])
        pairs = [result for row in found for result in row]
        means = {
            name: float(np.mean([getattr(result, name) for result in pairs])) for name in ("content_loss", "style_loss")
        }
        start = {"content_loss": 0.0, "style_loss": 1.0}
        numbers = {
            "content image": start,
            "result": means,
            "style image": {name: 1 - value for name, value in start.items()},
        }
        image = run.spec.kind.sheet(neural_style.grid(contents, styles, x), len(styles) + 1)
        title = f"left the content, in {layers[0]};\nabove the style, in {len(layers[1])} layers"
        assert image is not None
        out.figure("restyle", titled(image, title))
        out.images([f"{i}.png" for i in range(len(pairs))], x.reshape(-1, *run.spec.shape))
        out.json(
            {
                "content": args.content,
                "style": args.style_of,
                "settings": vars(settings),
                "layers": layers,
                "numbers": numbers,
            }
        )
    out.table(f"mean of {len(pairs)} images; relative to the other image", numbers)
    return out


def check(args: argparse.Namespace) -> str:
    """Return the task; UserError for options of another one, or without those that they need."""
    from autoenc.errors import UserError

    for one, other in (("from_class", "to_class"), ("content", "style_of")):
        if (getattr(args, one) is None) != (getattr(args, other) is None):
            raise UserError(f"{flag(one)} and {flag(other)}: give both")
    tasks = [name for name, key in KEYS.items() if key and getattr(args, key) is not None]
    if len(tasks) > 1:
        raise UserError("--from-class and --content: give one of them")
    task = (tasks or ["classes"])[0]
    for option in {name for options in OPTIONS.values() for name in options} - {*OPTIONS[task]}:
        if getattr(args, option) is not None:
            owners = [flag(KEYS[name]) for name in OPTIONS if option in OPTIONS[name] and KEYS[name]]
            parts = [f"for {' or '.join(owners)}"] * bool(owners) + [f"not for {flag(KEYS[task])}"] * bool(KEYS[task])
            raise UserError(f"{flag(option)}: is {', '.join(parts)}")
    if args.examples and args.input:
        raise UserError("--examples: test examples, and --input, files; give one of them")
    if args.classes and not args.input:
        raise UserError("--class: is for --input")
    if args.resize and not (args.input or args.content):
        raise UserError("--resize: is for --input and --content")
    return task


def flag(option: str) -> str:
    """Return an option as it is written on the command line."""
    return f"--{ {'classes': 'class', 'style_of': 'style'}.get(option, option).replace('_', '-') }"


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
    arguments.add_argument(
        "--content", nargs="+", metavar="A", help="images whose content is kept: files or test examples"
    )
    arguments.add_argument("--style", dest="style_of", nargs="+", metavar="B", help="images whose style they are given")
    arguments.add_argument("--content-layer", metavar="LAYER", help="default: the last feature maps")
    arguments.add_argument("--style-layers", nargs="+", metavar="LAYER", help="default: all feature maps")
    arguments.add_argument(
        "--style-weight", type=float, metavar="W", help="of the style, the content has 1 (default: 1)"
    )
    arguments.add_argument("--variation-weight", type=float, metavar="W", help="of the total variation (default: 0.1)")
    arguments.add_argument("--steps", type=positive, help="iterations of L-BFGS (default: 300)")
    strengths = " ".join(f"{strength:g}" for strength in STRENGTHS)
    arguments.add_argument(
        "--strengths", type=float, nargs="+", metavar="S", help=f"factors of the difference (default: {strengths})"
    )
    execute(main, arguments)
