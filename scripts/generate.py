"""Generate with a trained run: new examples, paths between examples, pictures of the code, labelled training sets.

Of texts: sentences, and the way from one sentence to another, step by step.

Samples come from the prior where the bottleneck has one, else from a density fitted to the codes of the training split.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.command import execute, parser, positive

if TYPE_CHECKING:
    import numpy as np

    from autoenc.apps.generation.generate import Decoded
    from autoenc.apps.outputs import Outputs
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/generate.py RUN                                    64 samples, and how near to real data they are
  python scripts/generate.py RUN --density gaussian --temperature 0.7
  python scripts/generate.py RUN --interpolate 3 17                 from one test example to another, or A.png B.png
  python scripts/generate.py RUN --traverse                         one dimension of the code at a time
  python scripts/generate.py RUN --sheet                            all of a code of two numbers
  python scripts/generate.py RUN --augment more.npz --labels 100 --per-class 100
  python train.py data=arrays data.path=more.npz                    ... trains on it, and tests on real examples
texts:
  python scripts/generate.py RUN --count 20                         the likeliest token at each step; or --beam 5
  python scripts/generate.py RUN --temperature 0.8 --top-p 0.9      tokens drawn
  python scripts/generate.py RUN --interpolate "a dog runs ." "two men sit at a table ." --steps 7
  python scripts/generate.py RUN --reconstruct 10                   test examples, and what is written of their codes

results, in RUN/generate: generate.json, samples.npz and samples.png (samples.csv of vectors, of tables in their own
columns and units; of bags of words the likeliest words); interpolate, traverse and sheet alike; augment.json (accuracy
without and with the generated examples), augment.png; of texts generate.json and samples.txt, interpolate.json and
.txt, reconstruct.json and .txt
"""

WRITING: dict[str, Any] = {"temperature": None, "top_p": None, "beam": None, "seed": 0}  # of texts
# The options of each kind of work; its default, which is None where the model decides.
OPTIONS: dict[str, dict[str, Any]] = {
    "samples": {"density": None, "components": 10, "count": 64, **WRITING},
    "interpolate": {"steps": 11, "resize": False, **WRITING},
    "reconstruct": WRITING,
    "traverse": {},
    "sheet": {},
    "augment": {"labels": 100, "per_class": 100, "method": "smote", "seed": 0},
}
# What only texts have, and what they have not, by kind of work.
OF_TEXTS = {
    "samples": ("top_p", "beam"),
    "interpolate": ("top_p", "beam", "temperature", "seed"),
    "reconstruct": ("reconstruct",),
}
NOT_OF_TEXTS = {"traverse": ("traverse",), "sheet": ("sheet",), "augment": ("augment",), "interpolate": ("resize",)}
PRINTED = 20  # texts


def main(args: argparse.Namespace) -> None:
    """Generate, print, write."""
    work = next((name for name in OPTIONS if getattr(args, name, None) is not None), "samples")
    options = chosen(args, work)
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs

    target = new_file(args) if work == "augment" else None
    run = load_run(args.run, args.device)
    check_kind(args, work, run)
    name = "generate" if work == "samples" else work
    with Outputs(run, name, args.output or run.path / "generate", args.force) as out:
        if not run.spec.kind.continuous:
            write(run, out, args, work, options)
        elif work == "samples":
            sample(run, out, options)
        elif target is not None:
            augment(run, out, target, options)
        else:
            decode(run, out, args, options)
    out.say(f"results: {out.folder}")


def chosen(args: argparse.Namespace, work: str) -> dict[str, Any]:
    """The options of this kind of work, with defaults; those of another are refused, not ignored."""
    from autoenc.errors import UserError, require

    given = {k: v for options in OPTIONS.values() for k in options if (v := getattr(args, k)) is not None}
    for option in given.keys() - OPTIONS[work].keys():
        asked = " or ".join("samples" if k == "samples" else f"--{k}" for k, v in OPTIONS.items() if option in v)
        found = "samples" if work == "samples" else f"--{work}"
        raise UserError(f"--{option.replace('_', '-')} is for {asked}, not for {found}")
    if "components" in given and given.get("density", "mixture") != "mixture":
        raise UserError(f"--components is for --density mixture, not for {given['density']}")
    require(given.get("seed", 0) >= 0, "--seed", args.seed, "must be 0 or more")
    return OPTIONS[work] | given


def check_kind(args: argparse.Namespace, work: str, run: Run) -> None:
    """UserError for a kind of work, or an option of it, that the run's data do not allow."""
    from autoenc.errors import UserError

    text = not run.spec.kind.continuous
    for option in (NOT_OF_TEXTS if text else OF_TEXTS).get(work, ()):
        if getattr(args, option) is not None:
            kind = "texts, and this is for other data" if text else f"{run.spec.kind.noun}, and this is for texts"
            here = f" with --{work}" if option != work and work != "samples" else ""
            raise UserError(f"--{option.replace('_', '-')}{here}: {run.path} was trained on {kind}")


def measured(out: Outputs, quality: Callable[[], dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The quality of samples; a line instead where the data that they are compared with cannot be read."""
    from autoenc.errors import DataError

    try:
        return quality()
    except DataError as error:
        out.say(f"the samples are not compared with real data, which cannot be read ({error})")
        return {}


def sample(run: Run, out: Outputs, options: dict[str, Any]) -> None:
    """Samples, their picture and their quality."""
    from autoenc.apps.generation import density, generate

    seed, temperature = options["seed"], 1.0 if options["temperature"] is None else options["temperature"]
    source = density.of(run, options["density"], options["components"])
    made = generate.samples(run, options["count"], source, seed, temperature)
    numbers = measured(out, lambda: generate.quality(run, source, seed + 1, temperature))
    keep(run, out, made)
    out.json({"density": source.text, "count": len(made.x), "seed": seed, "temperature": temperature, **numbers})
    out.table("nearness to real data (validation: real examples in place of samples)", numbers)
    out.say(f"{len(made.x):,} samples from {source.text}")


def write(run: Run, out: Outputs, args: argparse.Namespace, work: str, options: dict[str, Any]) -> None:
    """Texts: samples, a path, or reconstructions."""
    from autoenc.apps.generation import density
    from autoenc.apps.generation import texts as text

    how, seed = text.Writing(options["temperature"], options["top_p"], options["beam"]), options["seed"]
    facts: dict[str, Any] = {"written": str(how), "seed": seed}
    if work == "samples":
        source = density.of(run, options["density"], options["components"])
        made = text.samples(run, options["count"], source, seed, how)
        numbers = measured(out, lambda: text.quality(run, source, seed + 1, how))
        out.table("what samples are like (validation: real texts)", numbers)
        facts |= {"density": source.text, **numbers}
        lines = made.texts
    elif work == "interpolate":
        a, b = args.interpolate
        made = text.interpolate(run, a, b, options["steps"], how, seed)
        facts |= {"from": a, "to": b}
        lines = [f"{step / (len(made.z) - 1):.2f}  {found}" for step, found in enumerate(made.texts)]
    else:
        split = run.examples.subset(slice(0, args.reconstruct))
        read, made = text.reconstructions(run, split, how, seed)
        facts |= {"read": read}
        lines = [line for pair in zip(read, made.texts, strict=True) for line in (f"< {pair[0]}", f"> {pair[1]}")]
    name = "samples" if work == "samples" else work
    out.npz(name, x=made.ids, z=made.z)
    out.path(f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    out.json(facts | {"texts": made.texts})
    for line in lines[:PRINTED]:
        out.say(line)
    out.say(f"{len(made.texts):,} texts, {how}")


def decode(run: Run, out: Outputs, args: argparse.Namespace, options: dict[str, Any]) -> None:
    """A path, a traversal or a sheet."""
    from autoenc.apps.generation import generate

    facts: dict[str, Any] = {}
    if args.interpolate:
        a, b = (find(run, text, options["resize"]) for text in args.interpolate)
        made = generate.interpolate(run, a, b, options["steps"])
        facts = {"from": args.interpolate[0], "to": args.interpolate[1], "steps": options["steps"]}
    elif args.traverse is not None:
        generate.example(run, args.traverse)
        made = generate.traverse(run, args.traverse)
        facts = {"example": args.traverse, "rows": made.labels}
    else:
        made = generate.sheet(run)
        facts = {"side": len(made.x)}
    keep(run, out, made, made.z.shape[-2])
    out.json(facts)


def keep(run: Run, out: Outputs, made: Decoded, steps: int | None = None) -> None:
    """Arrays, a picture of what people look at, a table of what they read; the first lines on the screen.

    Args:
        steps: of the paths that the examples are on; None: they are samples.
    """
    import torch

    from autoenc.apps.generation import generate

    name = "samples" if steps is None else out.name
    out.npz(name, x=made.x, z=made.z)
    if (image := generate.picture(run, made, steps or math.ceil(math.sqrt(len(made.x))))) is not None:
        out.figure(name, image)
    if (table := generate.listed(run, made, steps)) is not None:
        out.csv(name, *table)
    if image is None:
        first = torch.from_numpy(made.x.reshape(-1, *run.spec.shape)[:PRINTED])
        for line in run.spec.kind.show({name.removesuffix("s"): first}):
            out.say(str(line))


def augment(run: Run, out: Outputs, target: Path, options: dict[str, Any]) -> None:
    """A labelled set, and what it is worth to a classifier."""
    import numpy as np

    from autoenc.apps.generation import augment

    made = augment.augment(run, **options)
    accuracies = augment.compare(run, **options)
    out.json({"file": str(target), **options, "test_accuracy": accuracies})
    if (image := augment.picture(run, made)) is not None:
        out.figure("augment", image)
    augment.save(run, made, target)
    spread = {
        name: {kind: f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for kind, values in kinds.items()}
        for name, kinds in accuracies.items()
    }
    out.table(f"accuracy on test data, {augment.SEEDS} draws of {options['labels']} labels", spread)
    real, new = int((~made.generated).sum()), int(made.generated.sum())
    out.say(f"{target}: {real:,} real and {new:,} generated examples ({options['method']})")


def new_file(args: argparse.Namespace) -> Path:
    """Where --augment writes; refused before the work is done."""
    from autoenc.errors import UserError

    path = Path(args.augment)
    if path.suffix != ".npz":
        raise UserError(f"--augment {path}: expected a name that ends in .npz")
    if not path.parent.is_dir():
        raise UserError(f"--augment {path}: there is no folder {path.parent}")
    if path.exists() and not args.force:
        raise UserError(f"--augment {path}: is there already; --force writes over it")
    return path


def find(run: Run, text: str, resize: bool) -> np.ndarray:
    """An example: the number of one of the test split, or a file that holds one."""
    from autoenc.apps import inputs
    from autoenc.apps.generation import generate
    from autoenc.errors import UserError

    if text.lstrip("-").isdigit():
        return generate.example(run, int(text))
    found = inputs.read(run, text, resize).split
    if len(found) != 1:
        raise UserError(f"--interpolate {text}: expected one example, found {len(found)}")
    return found.take(slice(None)).x[0].numpy()


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    works = arguments.add_mutually_exclusive_group()
    works.add_argument(
        "--interpolate", nargs=2, metavar=("A", "B"), help="two test examples (0 ...), files or sentences"
    )
    works.add_argument("--traverse", nargs="?", type=int, const=0, metavar="INDEX", help="around a test example's code")
    works.add_argument(
        "--reconstruct", type=positive, metavar="N", help="texts: N test examples, and what is made of them"
    )
    works.add_argument("--sheet", action="store_true", default=None, help="a grid of codes, for model.latent_dim=2")
    works.add_argument("--augment", metavar="OUT.npz", help="write a labelled, enlarged training set")
    arguments.add_argument("--density", choices=("prior", "gaussian", "mixture"), help="default: prior, else mixture")
    arguments.add_argument("--components", type=positive, help="Gaussians in the mixture (default: 10)")
    arguments.add_argument("--count", type=positive, help="samples (default: 64)")
    arguments.add_argument("--temperature", type=float, help="of the density; of texts: draws tokens from p^(1/t)")
    arguments.add_argument("--top-p", type=float, help="texts: draws of the likeliest tokens that have p together")
    arguments.add_argument("--beam", type=positive, metavar="WIDTH", help="texts: searches for the likeliest")
    arguments.add_argument("--seed", type=int, help="of samples, or of the first draw of labels (default: 0)")
    arguments.add_argument("--steps", type=positive, help="of --interpolate, both ends included (default: 11)")
    arguments.add_argument("--resize", action="store_true", default=None, help="scale images that --interpolate reads")
    arguments.add_argument("--labels", type=positive, help="labelled examples --augment starts from (default: 100)")
    arguments.add_argument("--per-class", type=positive, help="examples --augment makes of each class (default: 100)")
    arguments.add_argument("--method", choices=("smote", "gaussian"), help="of --augment (default: smote)")
    execute(main, arguments)
