"""Generate with a trained run: new examples, interpolations, figures of the code, labelled training sets.

Samples are drawn from the prior that scripts/fit_prior.py has fitted, from that of the bottleneck, or from a density
fitted to the training codes if there is none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.command import Results, execute, parser, positive

if TYPE_CHECKING:
    from autoenc.loading import Run

EXAMPLES = """examples:
  python scripts/generate.py RUN                                    64 samples, and their distance to real data
  python scripts/generate.py RUN --density gaussian --temperature 0.7
  python scripts/generate.py RUN --interpolate 3 17                 between two test examples, or A.png B.png
  python scripts/generate.py RUN --interpolate 3 17 --sphere        codes on a great circle (White 2016)
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
    "interpolate": {"steps": 11, "sphere": False, "resize": False, **WRITING},
    "reconstruct": WRITING,
    "traverse": {},
    "sheet": {"classes": ()},
    "augment": {"labels": 100, "per_class": 100, "method": ("smote",), "seed": 0},
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


def main(args: argparse.Namespace) -> Results:
    """Check the arguments, generate, write."""
    task = next((name for name in OPTIONS if getattr(args, name, None) is not None), "samples")
    options = chosen(args, task)
    from autoenc import load_run
    from autoenc.apps.generation import tasks
    from autoenc.apps.outputs import Outputs

    argument = new_file(args) if task == "augment" else getattr(args, task, None)
    run = load_run(args.run, args.device)
    check_kind(args, task, run)
    work = tasks.prepare(run, task, argument, options)
    name = "generate" if task == "samples" else task
    with Outputs(run, name, args.output or run.path / "generate", args.force) as out:
        work(out)
    out.say(f"results: {out.folder}")
    return out.summary


def chosen(args: argparse.Namespace, task: str) -> dict[str, Any]:
    """Return the options of a task with defaults; UserError for options of another task."""
    from autoenc.errors import UserError, require

    given = {k: v for options in OPTIONS.values() for k in options if (v := getattr(args, k)) is not None}
    for option in given.keys() - OPTIONS[task].keys():
        tasks = " or ".join(k if k == "samples" else f"--{k}" for k, v in OPTIONS.items() if option in v)
        name = NAMES.get(option, option).replace("_", "-")
        raise UserError(f"--{name} is for {tasks}, not for {task if task == 'samples' else f'--{task}'}")
    if "components" in given and given.setdefault("density", "mixture") != "mixture":
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


def new_file(args: argparse.Namespace) -> Path:
    """Return the file that --augment writes; UserError if it cannot be written."""
    from autoenc.errors import UserError, check_new

    path = Path(args.augment)
    if path.suffix != ".npz":
        raise UserError(f"--augment {path}: expected a name that ends in .npz")
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
        choices=("autoregressive", "prior", "gaussian", "mixture", "independent"),
        help="default: the prior of fit_prior, that of the model, or a mixture; independent: of sparse codes",
    )
    arguments.add_argument("--components", type=positive, help="Gaussians in the mixture (default: 10)")
    arguments.add_argument("--count", type=positive, help="samples (default: 64)")
    arguments.add_argument(
        "--temperature",
        type=float,
        help="factor of the standard deviations of a density, and of draws from p(x|z); divisor of the logits of "
        "indices; for text data, divisor of the logits of tokens, which are then sampled",
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
    arguments.add_argument(
        "--sphere", action="store_true", default=None, help="--interpolate on a great circle, not on a straight line"
    )
    arguments.add_argument("--resize", action="store_true", default=None, help="scale images that are read")
    arguments.add_argument("--labels", type=positive, help="labelled examples for --augment (default: 100)")
    arguments.add_argument(
        "--per-class", type=positive, help="generated examples of each class for --augment (default: 100)"
    )
    arguments.add_argument(
        "--method",
        nargs="+",
        choices=("smote", "gaussian", "class", "style"),
        help="methods of --augment to compare; the first is written (default: smote). For conditional models: class "
        "samples the prior, style decodes the codes of labelled examples with every class",
    )
    execute(main, arguments)
