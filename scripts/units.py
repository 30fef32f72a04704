"""Show what units stand for: the training examples that excite each most; for the code, its column of the decoder.

The examples are those of RUN/reference.npz; the training files are not needed.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/units.py RUN                          16 units with the largest variance
  python scripts/units.py RUN --units 1,5,7 --examples 20
  python scripts/units.py RUN --most 100
  python scripts/units.py RUN --layer encoder.3        units of another layer, in RUN/units/encoder.3

results: units.csv (unit, frequency, rank, activation, example), units.png for images and series, else units.html
"""


def numbers(text: str) -> list[int]:
    """Parse 1,5,7."""
    return [int(part) for part in text.split(",")]


numbers.__name__ = "list of whole numbers"  # argparse shows it in messages


def main(args: argparse.Namespace) -> Results:
    """Choose units, draw, write."""
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.seeing import layers, units

    run = load_run(args.run, args.device)
    size = layers.check_units(run, args.layer, args.units or [], "--units")
    with Outputs(run, "units", args.output, args.force, "" if args.layer == layers.CODE else args.layer) as out:
        found = units.units(run, args.units, args.most, args.examples, args.layer)
        image = units.sheet(run, found, args.examples)
        if image is None:
            out.path("units.html").write_text(units.page(run, found), encoding="utf-8", errors="backslashreplace")
        else:
            out.figure("units", image)
        out.csv("units", ["unit", "frequency", "rank", "activation", "example"], units.table(run, found))
        out.json({"units": {str(unit.number): {"frequency": unit.frequency} for unit in found}})
    file = out.folder / ("units.html" if image is None else "units.png")
    out.say(f"{len(found)} of {size} units of {args.layer}: {file}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--layer", default="code", help="code, or encoder.0, encoder.1, ... (default: code)")
    arguments.add_argument("--units", type=numbers, help="numbers of the units: 1,5,7")
    arguments.add_argument(
        "--most", type=positive, default=16, help="units, by variance, without --units (default: 16)"
    )
    arguments.add_argument("--examples", type=positive, default=10, help="examples of each unit (default: 10)")
    execute(main, arguments)
