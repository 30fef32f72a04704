"""Generate with a trained run: new examples, interpolations, figures of the code, labelled training sets.

Samples are drawn from the prior that scripts/fit_prior.py has fitted, from that of the bottleneck, or from a density
fitted to the training codes if there is none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.command import execute, parser, positive

if TYPE_CHECKING:
    from autoenc.apps.outputs import Outputs
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/generate.py RUN                                    64 samples, and their distance to real data
  python scripts/generate.py RUN --density gaussian --temperature 0.7
  python scripts/generate.py RUN --interpolate 3 17                 between two test examples, or A.png B.png
  python scripts/generate.py RUN --traverse                         vary one dimension of the code at a time
  python scripts/generate.py RUN --sheet                            grid of codes, for model.latent_dim=2
  python scripts/generate.py RUN --class 3 5                        of conditional models: samples of these classes
  python scripts/generate.py RUN --augment more.npz --labels 100 --per-class 100
  python train.py data=arrays data.path=more.npz                    train on it; the test examples are real
text data:
  python scripts/generate.py RUN --count 20                         the most likely token at each step; or --beam 5
  python scripts/generate.py RUN --temperature 0.8 --top-p 0.9      sampled tokens
  python scripts/generate.py RUN --interpolate "a dog runs ." "two men sit at a table ." --steps 7
  python scripts/generate.py RUN --reconstruct 10                   test examples and their reconstructions

results, in RUN/generate:
  samples          generate.json, samples.npz, samples.png (vectors, tables, bags of words: .csv; text data: .txt)
  other tasks      NAME.json, NAME.npz, and NAME.png, .csv or .txt
  --augment        augment.json (accuracy without and with the generated examples), augment.png
"""

WRITING: dict[str, Any] = {"temperature": None, "top_p": None, "beam": None, "seed": 0}  # for text data
# Task -> its options and their defaults; None: depends on the model.
OPTIONS: dict[str, dict[str, Any]] = {
    "samples": {"density": None, "components": 10, "count": 64, "mean": None, "classes": (), **WRITING},
    "interpolate": {"steps": 11, "resize": False, **WRITING},
    "reconstruct": WRITING,
    "traverse": {},
    "sheet": {"classes": ()},
    "augment": {"labels": 100, "per_class": 100, "method": "smote", "seed": 0},
}
# Task -> options that only text data has, and options that text data does not have.
TEXT_ONLY = {
    "samples": ("top_p", "beam"),
    "interpolate": ("top_p", "beam", "temperature", "seed"),
    "reconstruct": ("reconstruct",),
}
NOT_FOR_TEXT = {
    "samples": ("mean",),
    "traverse": ("traverse",),
    "sheet": ("sheet",),
    "augment": ("augment",),
    "interpolate": ("resize",),
}
NAMES = {"classes": "class"}  # options whose name on the command line is a word of Python


def main(args: argparse.Namespace) -> None:
    """Generate, print, write."""
    task = next((name for name in OPTIONS if getattr(args, name, None) is not None), "samples")
    options = chosen(args, task)
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs

    target = new_file(args) if task == "augment" else None
    run = load_run(args.run, args.device)
    check_kind(args, task, run)
    name = "generate" if task == "samples" else task
    with Outputs(run, name, args.output or run.path / "generate", args.force) as out:
        if not run.spec.kind.continuous:
            write(run, out, args, task, options)
        elif task == "samples":
            sample(run, out, options)
        elif target is not None:
            augment(run, out, target, options)
        else:
            decode(run, out, args, options)
    out.say(f"results: {out.folder}")


def chosen(args: argparse.Namespace, task: str) -> dict[str, Any]:
    """Return the options of a task with defaults; UserError for options of another task."""
    from autoenc.errors import UserError, require

    given = {k: v for options in OPTIONS.values() for k in options if (v := getattr(args, k)) is not None}
    for option in given.keys() - OPTIONS[task].keys():
        tasks = " or ".join(k if k == "samples" else f"--{k}" for k, v in OPTIONS.items() if option in v)
        name = NAMES.get(option, option).replace("_", "-")
        raise UserError(f"--{name} is for {tasks}, not for {task if task == 'samples' else f'--{task}'}")
    if "components" in given and given.get("density", "mixture") != "mixture":
        raise UserError(f"--components is for --density mixture, not for {given['density']}")
    require(given.get("seed", 0) >= 0, "--seed", args.seed, "must be 0 or more")
    return OPTIONS[task] | given


def check_kind(args: argparse.Namespace, task: str, run: Run) -> None:
    """Raise UserError for a task, or an option of it, that does not apply to the run's data."""
    from autoenc.errors import UserError

    text = not run.spec.kind.continuous
    for option in (NOT_FOR_TEXT if text else TEXT_ONLY).get(task, ()):
        if getattr(args, option) is not None:
            kind = "text data, and this is for other data" if text else f"{run.spec.kind.noun}; this is for text data"
            here = f" with --{task}" if option != task and task != "samples" else ""
            raise UserError(f"--{option.replace('_', '-')}{here}: {run.path} was trained on {kind}")


def measured(out: Outputs, quality: Callable[[], dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the quality of samples; print a line instead if the data set cannot be read."""
    from autoenc.errors import DataError

    try:
        return quality()
    except DataError as error:
        out.say(f"the samples are not compared with real data, which cannot be read ({error})")
        return {}


def sample(run: Run, out: Outputs, options: dict[str, Any]) -> None:
    """Write samples, their figure and their quality."""
    from autoenc.apps.generation import classifier, density, generate, quality

    seed, temperature = options["seed"], 1.0 if options["temperature"] is None else options["temperature"]
    source = density.of(run, options["density"], options["components"])
    mean, classes = options["mean"], options["classes"]
    examples = generate.samples(run, options["count"], source, seed, temperature, mean, classes)

    def compared() -> dict[str, dict[str, float]]:
        others = generate.samples(run, quality.size(run), source, seed + 1, temperature, mean)
        return quality.quality(run, {"samples": others.x}, classifier.load(run))

    numbers = {} if classes else measured(out, compared)
    generate.keep(run, out, examples)
    facts: dict[str, Any] = {"classes": list(classes)} if classes else {}
    facts |= {"density": source.text, "count": len(examples.x), "seed": seed, "temperature": temperature, **numbers}
    out.json(facts)
    out.table("distance to real data (validation: real examples in place of samples)", numbers)
    drawn = run.spec.kind.drawn and not mean
    out.say(f"{len(examples.x):,} samples from {source.text}; {'draws from' if drawn else 'means of'} p(x|z)")
    if (verdict := run.verdict) and "collapsed" in verdict:
        out.say(f"Attention: {verdict}")


def write(run: Run, out: Outputs, args: argparse.Namespace, task: str, options: dict[str, Any]) -> None:
    """Write samples, interpolations or reconstructions of text data."""
    from autoenc.apps.generation import density, generate
    from autoenc.apps.generation import texts as text

    how, seed = text.Writing(options["temperature"], options["top_p"], options["beam"]), options["seed"]
    facts: dict[str, Any] = {"written": str(how), "seed": seed}
    if task == "samples":
        source = density.of(run, options["density"], options["components"])
        examples = text.samples(run, options["count"], source, seed, how, options["classes"])
        numbers = {} if options["classes"] else measured(out, lambda: text.quality(run, source, seed + 1, how))
        out.table("samples (validation: real texts)", numbers)
        facts |= {"density": source.text, **numbers}
        lines = examples.texts
    elif task == "interpolate":
        a, b = args.interpolate
        examples = text.interpolate(run, a, b, options["steps"], how, seed)
        facts |= {"from": a, "to": b}
        lines = [f"{step / (len(examples.z) - 1):.2f}  {found}" for step, found in enumerate(examples.texts)]
    else:
        split = run.examples.sample(args.reconstruct)
        read, examples = text.reconstructions(run, split, how, seed)
        facts |= {"read": read}
        lines = [line for pair in zip(read, examples.texts, strict=True) for line in (f"< {pair[0]}", f"> {pair[1]}")]
    name = "samples" if task == "samples" else task
    out.npz(name, x=examples.ids, z=examples.z)
    out.path(f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    out.json(facts | {"texts": examples.texts})
    for line in lines[: generate.PRINTED]:
        out.say(line)
    out.say(f"{len(examples.texts):,} texts, {how}")


def decode(run: Run, out: Outputs, args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Write an interpolation, a traversal or a grid of codes."""
    from autoenc.apps import inputs
    from autoenc.apps.generation import generate

    facts: dict[str, Any] = {}
    if args.interpolate:
        ends = [inputs.one(run, text, "--interpolate", options["resize"]) for text in args.interpolate]
        a, b = (end.take(slice(None)).x[0].numpy() for end in ends)
        examples = generate.interpolate(run, a, b, options["steps"])
        facts = {"from": args.interpolate[0], "to": args.interpolate[1], "steps": options["steps"]}
    elif args.traverse is not None:
        examples = generate.traverse(run, args.traverse)
        facts = {"example": args.traverse, "rows": examples.labels}
    else:
        examples = generate.sheet(run, classes=options["classes"])
        facts = {"side": len(examples.x)}
    generate.keep(run, out, examples, examples.z.shape[-2])
    out.json(facts)


def augment(run: Run, out: Outputs, target: Path, options: dict[str, Any]) -> None:
    """Write a labelled set, and the accuracy of classifiers that are trained on it."""
    import numpy as np

    from autoenc.apps.generation import augment

    examples = augment.augment(run, **options)
    accuracies = augment.compare(run, **options)
    out.json({"file": str(target), **options, "test_accuracy": accuracies})
    if (image := augment.figure(run, examples)) is not None:
        out.figure("augment", image)
    augment.save(run, examples, target)
    spread = {
        name: {kind: f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for kind, values in kinds.items()}
        for name, kinds in accuracies.items()
    }
    out.table(f"accuracy on test data, {augment.SEEDS} draws of {options['labels']} labels", spread)
    real, new = int((~examples.generated).sum()), int(examples.generated.sum())
    out.say(f"{target}: {real:,} real and {new:,} generated examples ({options['method']})")


def new_file(args: argparse.Namespace) -> Path:
    """Return the file that --augment writes; UserError if it cannot be written."""
    from autoenc.errors import UserError, check_new

    path = Path(args.augment)
    if path.suffix != ".npz":
        raise UserError(f"--augment {path}: expected a name that ends in .npz")
    if not path.parent.is_dir():
        raise UserError(f"--augment {path}: the folder {path.parent} does not exist")
    check_new(path, args.force)
    return path


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    tasks = arguments.add_mutually_exclusive_group()
    tasks.add_argument(
        "--interpolate", nargs=2, metavar=("A", "B"), help="two test examples (0 ...), files or sentences"
    )
    tasks.add_argument(
        "--traverse", nargs="?", type=int, const=0, metavar="INDEX", help="vary the code of a test example"
    )
    tasks.add_argument(
        "--reconstruct", type=positive, metavar="N", help="text data: N test examples and their reconstructions"
    )
    tasks.add_argument("--sheet", action="store_true", default=None, help="a grid of codes, for model.latent_dim=2")
    tasks.add_argument("--augment", metavar="OUT.npz", help="write a labelled, enlarged training set")
    arguments.add_argument(
        "--density",
        choices=("autoregressive", "prior", "gaussian", "mixture"),
        help="default: the prior of fit_prior, that of the model, or a mixture",
    )
    arguments.add_argument("--components", type=positive, help="Gaussians in the mixture (default: 10)")
    arguments.add_argument("--count", type=positive, help="samples (default: 64)")
    arguments.add_argument(
        "--temperature", type=float, help="of the density; for text data, tokens are sampled from p^(1/t)"
    )
    arguments.add_argument(
        "--top-p", type=float, help="text data: sample from the most likely tokens, with total probability p"
    )
    arguments.add_argument("--beam", type=positive, metavar="WIDTH", help="text data: search for the most likely text")
    arguments.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        metavar="NAME",
        help="conditional models: classes of the samples, or of --sheet",
    )
    arguments.add_argument("--mean", action="store_true", default=None, help="means of p(x|z) in place of draws")
    arguments.add_argument("--seed", type=int, help="seed of samples, or of the first draw of labels (default: 0)")
    arguments.add_argument(
        "--steps", type=positive, help="examples of --interpolate, including both ends (default: 11)"
    )
    arguments.add_argument("--resize", action="store_true", default=None, help="scale images that --interpolate reads")
    arguments.add_argument("--labels", type=positive, help="labelled examples for --augment (default: 100)")
    arguments.add_argument(
        "--per-class", type=positive, help="generated examples of each class for --augment (default: 100)"
    )
    arguments.add_argument("--method", choices=("smote", "gaussian"), help="method of --augment (default: smote)")
    execute(main, arguments)
