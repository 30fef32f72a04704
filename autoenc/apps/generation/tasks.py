"""What scripts/generate.py does: a task checks its arguments, and returns the function that writes its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoenc.apps import inputs
from autoenc.apps.generation import augment as enlarged
from autoenc.apps.generation import classifier, density, generate, neighbours, paths, quality
from autoenc.apps.generation import texts as text
from autoenc.apps.generation.generate import Decoded
from autoenc.apps.outputs import Outputs
from autoenc.data.split import Split
from autoenc.errors import DataError
from autoenc.figures import titled
from autoenc.loading import Run

BESIDE = 16  # samples that are shown beside their nearest training examples
Work = Callable[[Outputs], None]


def prepare(run: Run, name: str, argument: Any, options: Mapping[str, Any]) -> Work:
    """Return the function that writes the results of a task.

    Args:
        argument: of the task's own option, such as two examples. options: the others, with defaults.

    Raises:
        UserError: an argument is wrong; nothing is written before all have been checked.
    """
    if not run.spec.kind.continuous:
        how = text.Writing(options["temperature"], options["top_p"], options["beam"])
        return TASKS_OF_TEXTS[name](run, argument, options, how)
    return TASKS[name](run, argument, options)


def sample(run: Run, _: Any, options: Mapping[str, Any]) -> Work:
    """Write samples, their figure and their quality."""
    seed, mean, classes, n = (options[name] for name in ("seed", "mean", "classes", "count"))
    temperature = 1.0 if options["temperature"] is None else options["temperature"]
    generate.labels_of(run, classes, n, seed)
    source = density.of(run, options["density"], options["components"])
    density.check_temperature(source, temperature)

    def work(out: Outputs) -> None:
        examples = generate.samples(run, n, source, seed, temperature, mean, classes)

        def compared() -> dict[str, dict[str, float]]:
            return quality.of_density(run, source, seed, temperature, mean)

        numbers = {} if classes else measured(out, compared)
        generate.keep(run, out, examples)
        beside(run, out, Split(torch.from_numpy(examples.x)))
        facts: dict[str, Any] = {"classes": list(classes)} if classes else {}
        facts |= {"density": source.text, "count": n, "seed": seed, "temperature": temperature}
        facts |= {"compared": quality.size(run), **numbers} if numbers else {}
        out.json(facts)
        if numbers:
            of = f"distance of {facts['compared']:,} samples to as many test examples"
            out.table(f"{of} (validation: validation examples in place of samples)", numbers)
        at = "" if temperature == 1 else f", at temperature {temperature:g}"
        out.say(f"{examples.title}{at}")
        if (verdict := run.verdict) and "collapsed" in verdict:
            out.say(f"Attention: {verdict}")

    return work


def interpolate(run: Run, ends: Sequence[str], options: Mapping[str, Any]) -> Work:
    """Write a path between two examples, and name them."""
    a, b = (inputs.one(run, end, "--interpolate", options["resize"]) for end in ends)
    x = torch.cat([a.take(slice(None)).x, b.take(slice(None)).x]).cpu().numpy()
    found = paths.interpolate(run, x[0], x[1], options["steps"], options["sphere"])

    def work(out: Outputs) -> None:
        image = generate.keep(run, out, found, options["steps"])
        out.json({"from": ends[0], "to": ends[1], "steps": options["steps"], "sphere": options["sphere"]})
        out.say(f"from {named(run, ends[0], a)} to {named(run, ends[1], b)}{f': {image}' if image else ''}")

    return work


def traverse(run: Run, index: int, _: Mapping[str, Any]) -> Work:
    """Write the traversal of an example."""
    found = paths.traverse(run, index)
    facts = {"example": index, "rows": found.labels}
    return lambda out: _written(run, out, found, facts)


def sheet(run: Run, _: Any, options: Mapping[str, Any]) -> Work:
    """Write a grid of codes."""
    found = paths.sheet(run, classes=options["classes"])
    return lambda out: _written(run, out, found, {"side": len(found.x)})


def augment(run: Run, target: Path, options: Mapping[str, Any]) -> Work:
    """Write a labelled set, and the accuracy of classifiers that are trained on it."""
    labels, each, methods, seed = (options[name] for name in ("labels", "per_class", "method", "seed"))
    for method in methods:
        enlarged.check_method(run, method)
    examples = enlarged.augment(run, labels, each, methods[0], seed)

    def work(out: Outputs) -> None:
        accuracies, known = enlarged.compare(run, labels, each, methods, seed), enlarged.labels_of_model(run)
        means = {name: {arm: float(np.mean(each)) for arm, each in arms.items()} for name, arms in accuracies.items()}
        facts = {"file": str(target), **options, "labels_of_model": known}
        out.json(facts | {"test_accuracy": accuracies, "mean_test_accuracy": means})
        if (image := enlarged.figure(run, examples)) is not None:
            out.figure("augment", image)
        enlarged.save(run, examples, target)
        spread = {
            name: {kind: f"{np.mean(values):.3f} (sd {np.std(values, ddof=1):.3f})" for kind, values in kinds.items()}
            for name, kinds in accuracies.items()
        }
        out.table(f"accuracy on test data, mean and sd of {enlarged.SEEDS} draws of {labels} labels", spread)
        if known > labels:
            out.say(f"the model that generates was trained with {known:,} labels, the classifiers have {labels}")
        real, new = int((~examples.generated).sum()), int(examples.generated.sum())
        out.say(f"{target}: {real:,} real and {new:,} generated examples ({methods[0]})")

    return work


def sample_texts(run: Run, _: Any, options: Mapping[str, Any], how: text.Writing) -> Work:
    """Write sampled texts and their quality."""
    seed, classes, n = options["seed"], options["classes"], options["count"]
    text.check(run)
    generate.labels_of(run, classes, n, seed)
    source = density.of(run, options["density"], options["components"])

    def work(out: Outputs) -> None:
        examples = text.samples(run, n, source, seed, how, classes)
        numbers = {} if classes else measured(out, lambda: text.quality(run, source, seed, how))
        if numbers:
            out.table(f"{text.size(run):,} samples (validation: as many real texts)", numbers)
        keep_texts(out, "samples", examples, examples.texts)
        beside(run, out, Split(torch.from_numpy(examples.ids)))
        out.json(_facts(how, options, examples) | {"density": source.text, **numbers})
        out.say(f"{n:,} texts from {source.text}, {how}")

    return work


def interpolate_texts(run: Run, ends: Sequence[str], options: Mapping[str, Any], how: text.Writing) -> Work:
    """Write a path between two texts."""
    a, b = ends
    found = text.interpolate(run, a, b, options["steps"], how, options["seed"], options["sphere"])

    def work(out: Outputs) -> None:
        lines = [f"{step / (len(found.z) - 1):.2f}  {line}" for step, line in enumerate(found.texts)]
        keep_texts(out, "interpolate", found, lines)
        out.json(_facts(how, options, found) | {"from": a, "to": b, "sphere": options["sphere"]})
        out.say(f"from {a} to {b}: {len(lines):,} texts, {how}")

    return work


def reconstruct_texts(run: Run, count: int, options: Mapping[str, Any], how: text.Writing) -> Work:
    """Write test examples and their reconstructions."""
    text.check(run)

    def work(out: Outputs) -> None:
        read, found = text.reconstructions(run, run.examples.sample(count), how, options["seed"])
        pairs = zip(read, found.texts, strict=True)
        keep_texts(out, "reconstruct", found, [line for a, b in pairs for line in (f"< {a}", f"> {b}")])
        out.json(_facts(how, options, found) | {"read": read})
        out.say(f"{len(read):,} texts, {how}")

    return work


TASKS: dict[str, Callable[[Run, Any, Mapping[str, Any]], Work]] = {
    "samples": sample,
    "interpolate": interpolate,
    "traverse": traverse,
    "sheet": sheet,
    "augment": augment,
}
TASKS_OF_TEXTS: dict[str, Callable[[Run, Any, Mapping[str, Any], text.Writing], Work]] = {
    "samples": sample_texts,
    "interpolate": interpolate_texts,
    "reconstruct": reconstruct_texts,
}


def measured(out: Outputs, numbers: Callable[[], dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the quality of samples; print a line instead if the data set cannot be read."""
    try:
        return numbers()
    except DataError as error:
        out.say(f"the samples are not compared with real data, which cannot be read ({error})")
        return {}


def beside(run: Run, out: Outputs, samples: Split) -> None:
    """Write the training example nearest to each of the first samples beside it."""
    samples = samples.subset(slice(0, BESIDE))
    found = neighbours.training(run, classifier.load(run))
    shown, near = neighbours.beside(found, samples)
    lines = run.spec.kind.show(shown)
    if isinstance(lines, np.ndarray):
        out.figure("nearest", titled(lines, "samples, and the training examples nearest to them"))
    else:
        out.text("nearest", lines)
    columns = [column for each in near.values() for column in (found.numbers[each.index], each.distance)]
    names = [f"{name}: {what}" for name in near for what in ("training row", "distance")]
    out.csv("nearest", ["sample", *names], zip(range(len(samples)), *columns, strict=True))


def keep_texts(out: Outputs, name: str, examples: text.Written, lines: Sequence[str]) -> None:
    """Write ids and codes, and lines of text; print the first of them."""
    out.npz(name, x=examples.ids, z=examples.z)
    out.text(name, lines)
    for line in lines[: generate.PRINTED]:
        out.say(line)


def named(run: Run, name: str, split: Split) -> str:
    """Return the name of an example for people: the file, or the number, with caption and class if there are any."""
    words = [f"example {name}" if name.lstrip("-").isdigit() else name]
    words += run.spec.kind.captions(split) or []
    label = -1 if split.y is None else int(split.y[0])
    return ", ".join(words + ([f"class {run.spec.classes[label]}"] if 0 <= label < len(run.spec.classes) else []))


def _written(run: Run, out: Outputs, examples: Decoded, facts: Mapping[str, Any]) -> None:
    generate.keep(run, out, examples, examples.z.shape[-2])
    out.json(facts)


def _facts(how: text.Writing, options: Mapping[str, Any], examples: text.Written) -> dict[str, Any]:
    return {"written": str(how), "seed": options["seed"], "texts": examples.texts}
