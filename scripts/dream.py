"""Dream what excites the units of a trained model: images by gradient ascent, beside the training examples that do.

For tables, vectors and bags of words: which columns or words raise each unit, to first order. The examples are those of
RUN/reference.npz; the training files are not needed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from autoenc.command import Results, execute, parser, positive

if TYPE_CHECKING:
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing.units import Unit
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/dream.py RUN --unit 7                     a unit of the code
  python scripts/dream.py RUN                              the 16 units of the code with the largest variance
  python scripts/dream.py RUN --units 0-15 --layer encoder.3
  python scripts/dream.py RUN --unit 7 --image x.png       what the unit sees in an image, a file or a test example
  python scripts/dream.py RUN --whole --layer encoder.3 --image 42

results, in RUN/dream, or of named units and other layers RUN/dream/LAYER/unit_N: dream.json (activations), dream.png
and unit_N.png; for other data than images dream.csv (unit, change, effect) and dream.html
"""
IMAGES_ONLY = ("image", "resize", "steps", "octaves", "jitter", "blur", "seed")


def numbers(text: str) -> list[int]:
    """Parse 0-15 or 1,5,7, or both: 0-3,7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} names no units")
    return list(dict.fromkeys(found))


def whole(text: str) -> int:
    """Parse a whole number that is not negative."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


def pixels(text: str) -> float:
    """Parse a number that is not negative."""
    if not 0 <= (value := float(text)) < 1e3:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


numbers.__name__ = "list of whole numbers"  # argparse shows it in messages
whole.__name__, pixels.__name__ = "whole number", "number"


def main(args: argparse.Namespace) -> Results:
    """Choose units, dream, write."""
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing import layers, units
    from autoenc.data.dataset import class_numbers
    from autoenc.errors import UserError
    from autoenc.text import ranges

    run = load_run(args.run, args.device)
    kind = run.spec.kind
    if not kind.continuous:
        why = f"no gradient moves {kind.noun} by small steps; scripts/units.py shows the examples of each unit"
        raise UserError(f"{run.path}: {why}")
    given = [name for name in IMAGES_ONLY if getattr(args, name) is not None and getattr(args, name) is not False]
    if given and not kind.images:
        raise UserError(f"--{given[0]}: only images are dreamt, and {run.path} was trained on {kind.noun}")
    if args.resize and args.image is None:
        raise UserError("--resize: scales the image that --image names, and there is none")
    layers.check_units(run, args.layer, args.units or [], "--unit")
    y = None
    if args.label is not None:
        run.labels([0], 1)  # refused unless the model is conditional
        (y,) = class_numbers(run.spec, [args.label], "--class")
    elif run.given_labels and args.layer == layers.CODE:
        raise UserError(f"{run.path}: the code depends on the class: --class {'|'.join(run.spec.classes)}")
    which = "whole" if args.whole else f"unit_{ranges(args.units)}" if args.units else ""
    call = "/".join(filter(None, ("" if args.layer == layers.CODE else args.layer, which)))
    with Outputs(run, "dream", args.output, args.force, call) as out:
        if args.whole:
            found = [units.whole(run, args.layer, args.examples)]
        else:
            found = units.units(run, args.units, args.most, args.examples, args.layer, "mean")
        (images if kind.images else words)(run, out, args, found, y)
    return out.summary


def images(run: Run, out: Outputs, args: argparse.Namespace, found: list[Unit], y: int | None) -> None:
    """Write dreams, their sheet and their activations."""
    from autoenc.apps.inputs import one_image
    from autoenc.apps.seeing import dream

    names = [args.layer] if args.whole else [f"unit_{unit.number}" for unit in found]
    chosen = {name: value for name in IMAGES_ONLY[2:] if (value := getattr(args, name)) is not None}
    settings = replace(dream.Settings.usual(run.spec.shape, args.image is not None), **chosen)
    start = None
    if args.image is not None:
        start = one_image(run, args.image, "--image", args.resize).take(slice(None)).x[0].cpu()
    dreamt = dream.dreams(run, args.layer, None if args.whole else [u.number for u in found], settings, start, y)
    out.figure("dream", dream.sheet(run, found, dreamt, args.examples, args.layer, start is not None))
    out.images([f"{name}.png" for name in names], dreamt.x.numpy())
    facts: dict[str, Any] = {"layer": args.layer, "image": args.image, **asdict(settings), "units": {}}
    rows: dict[str, dict[str, float | str]] = {}
    for unit, name, begin, end in zip(found, names, dreamt.begin.tolist(), dreamt.end.tolist(), strict=True):
        rows[name] = {"start": begin, "dream": end, "best_example": best(unit)}
        facts["units"][args.layer if args.whole else str(unit.number)] = rows[name]
    out.json(facts)
    out.table("activation", rows, f"{out.folder / 'dream.png'}")


def words(run: Run, out: Outputs, args: argparse.Namespace, found: list[Unit], y: int | None) -> None:
    """Write which changes of an example raise each unit."""
    from autoenc.apps.seeing import effects, units

    changes = effects.effects(run, args.layer, None if args.whole else [u.number for u in found], y)
    notes = [effects.text(each) for each in changes]
    names = [args.layer if args.whole else str(unit.number) for unit in found]
    out.path("dream.html").write_text(units.page(run, found, notes), encoding="utf-8", errors="backslashreplace")
    rows = ([name, *change] for name, each in zip(names, changes, strict=True) for change in each)
    out.csv("dream", ["unit", "change", "effect"], rows)
    facts = {
        name: {"best_example": best(unit), "changes": dict(each)}
        for name, unit, each in zip(names, found, changes, strict=True)
    }
    out.json({"layer": args.layer, "units": facts})
    for name, note in zip(names, notes, strict=True):
        out.say(f"{name if args.whole else f'unit {name}'} {note}")
    out.say(f"{out.folder / 'dream.html'}")


def best(unit: Unit) -> float:
    """Return the largest activation of a training example, 0 for a unit that none activates."""
    return float(unit.activations[0]) if len(unit.activations) else 0.0


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    which = arguments.add_mutually_exclusive_group()
    which.add_argument("--unit", "--units", dest="units", metavar="UNITS", type=numbers, help="7, 1,5,7 or 0-15")
    which.add_argument("--whole", action="store_true", help="the squared norm of the whole layer, not units of it")
    which.add_argument("--most", type=positive, default=16, help="units, by variance, without --units (default: 16)")
    arguments.add_argument("--layer", default="code", help="code, or encoder.0, encoder.1, ... (default: code)")
    arguments.add_argument("--image", metavar="PATH", help="start from this file or test example (default: noise)")
    arguments.add_argument("--resize", action="store_true", help="convert it to the size and mode of training")
    arguments.add_argument("--class", dest="label", metavar="NAME", help="the class that a conditional model is given")
    arguments.add_argument("--examples", type=positive, default=8, help="training examples beside each (default: 8)")
    arguments.add_argument("--steps", type=positive, help="in each octave (default: 64, or 12 from an image)")
    arguments.add_argument("--octaves", type=positive, help="resolutions, from coarse to fine (default: 4)")
    arguments.add_argument("--jitter", type=whole, help="largest shift in pixels (default: side / 14)")
    arguments.add_argument("--blur", type=pixels, help="of the gradient, std in pixels (default: side / 28)")
    arguments.add_argument("--seed", type=whole, help="of noise and jitter (default: 0)")
    execute(main, arguments)
