"""Style transfer by the code: examples in every class, and examples moved along the difference of two classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.generation.classifier import Classifier, inputs
from autoenc.apps.generation.generate import Decoded, decode, labels_of_rows
from autoenc.apps.untrained import NAME, untrained
from autoenc.core import UNLABELLED
from autoenc.data.dataset import class_numbers
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run

MEASURED = 500  # test examples
TITLE = 120  # characters


@dataclass(frozen=True)
class Outcome:
    """Codes that were decoded, (M, K), those of the decoded examples, and which classes a classifier takes them for.

    Args:
        wanted: (M,) classes that the examples should be of. predicted: (M,), or None without a classifier.
    """

    z: np.ndarray
    again: np.ndarray
    wanted: np.ndarray
    predicted: np.ndarray | None

    def numbers(self, order: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """Return restyle_accuracy, with a classifier, and style_correlation and style_r2 (`survival`).

        Args:
            order: a permutation of wanted classes and codes, for the numbers that chance gives.
        """
        accuracy = (
            {} if self.predicted is None else {"restyle_accuracy": float(np.mean(self.predicted == self.wanted[order]))}
        )
        return accuracy | survival(self.z[order], self.again)


def survival(z: np.ndarray, again: np.ndarray) -> dict[str, float]:
    """Return correlation and R2 of codes (M, K) and those of a second encoding, over examples and units together.

    Units are centered each, and count by their variance: those that carry nothing do not count. R2 is
    1 - |again - z|^2 / |z - mean|^2, 0 for a constant code; the correlation allows for another scale.
    """
    a, b = (np.asarray(x, np.float64) - x.mean(0, dtype=np.float64) for x in (z, again))
    spread = max(float(np.square(a).sum()), 1e-12)
    correlation = float((a * b).sum() / np.sqrt(spread * max(float(np.square(b).sum()), 1e-12)))
    return {
        "style_correlation": correlation,
        "style_r2": 1 - float(np.square(again - z).sum(dtype=np.float64)) / spread,
    }


def outcome(
    run: Run, z: np.ndarray, wanted: Tensor, classifier: Classifier | None, direction: np.ndarray | None = None
) -> Outcome:
    """Decode codes (M, K), with the classes (M,) if the model is conditional, and encode and classify the results.

    Args:
        direction: (K,) or (M, K), in which codes are not compared: the attribute that was changed.
    """
    y = wanted if run.conditional else None
    z = run.project(z)
    x = run.decode(z, y)
    again = run.codes(Split(torch.from_numpy(x), y))
    predicted = None if classifier is None else classifier.predict(inputs(run, x.reshape(len(x), -1)))
    if direction is not None:
        z, again = without(z, direction), without(again, direction)
    return Outcome(z, again, wanted.numpy(), predicted)


def without(z: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the parts of codes (M, K) that are orthogonal to a direction (K,), or to one each (M, K)."""
    along = (z * direction).sum(-1, keepdims=True) / np.square(direction).sum(-1, keepdims=True).clip(1e-12)
    return z - along * direction


def by_class(run: Run, split: Split) -> Decoded:
    """Decode the code of each example with every class: z (N, C + 1, K), x (N, C + 1, *shape); the example comes first.

    The code of a conditional model is what the class does not determine, the style: analogies of Kingma et al. 2014,
    fig. 1, and 2 (c). Examples without labels have those that the model infers.

    Raises:
        UserError: a model that is not conditional, or examples that need labels and have none.
    """
    check_conditional(run)
    z, classes = run.codes(split), run.spec.classes
    z = np.repeat(z[:, None], len(classes) + 1, 1)
    y = torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(len(classes))]).repeat(len(z))
    return _beside(
        run, split, decode(run, z, f"left the example, then its style in the classes {', '.join(classes)}", y=y)
    )


def check_conditional(run: Run) -> None:
    """Raise UserError for a model that is not conditional."""
    if not run.conditional:
        why = "model=cvae and model=m2 are; --from-class A --to-class B moves codes of any model"
        raise UserError(f"{run.path}: is not conditional, and cannot draw a style in every class; {why}")


def class_quality(run: Run, classifier: Classifier | None) -> dict[str, dict[str, float]]:
    """Measure `by_class` on up to 500 test examples, each in all classes but its own: method -> numbers.

    Beside it stand its own class, the numbers of permuted classes and codes, and the untrained network.
    """
    split, numbers, count = run.examples.sample(MEASURED), {}, len(run.spec.classes)
    known = split.y is not None and bool((split.y != UNLABELLED).all())
    own = split.y if known else labels_of_rows(run, split)  # for both networks: the same pairs
    assert own is not None
    own = own.cpu()
    for name, network in {"restyled": run, NAME: untrained(run)}.items():
        wanted = torch.arange(count).repeat(len(split))
        z, other = np.repeat(network.codes(split), count, 0), wanted != own.repeat_interleave(count)
        found = outcome(network, z[other.numpy()], wanted[other], classifier)
        numbers[name] = found.numbers()
        if network is run:
            numbers["own class"] = outcome(run, z[~other.numpy()], wanted[~other], classifier).numbers()
            numbers["chance"] = found.numbers(np.random.default_rng(0).permutation(len(found.z)))
    return numbers


@dataclass(frozen=True)
class Attribute:
    """The difference (K,) of the mean codes of two classes of the training rows, from `a` to `b`: their numbers."""

    vector: np.ndarray
    a: int
    b: int


def attribute(run: Run, a: str, b: str) -> Attribute:
    """Return the vector from the mean code of the training rows of one class to that of another (Larsen et al. 2016).

    Raises:
        UserError: a class that does not exist or has no training rows, one class twice, or a conditional model.
    """
    numbers = (*class_numbers(run.spec, [a], "--from-class"), *class_numbers(run.spec, [b], "--to-class"))
    if a == b:
        raise UserError(f"--to-class={b}: is --from-class too; name another class")
    if run.conditional:
        why = "its codes have no class; without --from-class each example is drawn in every class"
        raise UserError(f"--from-class: {run.path} is conditional, and {why}")
    y = run.reference.labels
    means = []
    for name, number in zip((a, b), numbers, strict=True):
        rows = np.flatnonzero(y == number) if y is not None else np.empty(0, int)
        if not len(rows):
            raise UserError(f"class {name}: {run.path} has no training rows of it")
        means.append(run.reference.codes[rows].mean(0, dtype=np.float64))
    return Attribute((means[1] - means[0]).astype(np.float32), *numbers)


def by_attribute(run: Run, split: Split, attribute: Attribute, strengths: Sequence[float]) -> Decoded:
    """Decode the codes of examples plus multiples of a vector: z (N, S + 1, K), x (N, S + 1, *shape).

    The examples come first.
    """
    steps = np.array([0.0, *strengths], np.float32)
    z = run.codes(split)[:, None] + steps[:, None] * attribute.vector
    classes = run.spec.classes
    listed = " ".join(f"{strength:g}" for strength in strengths)
    title = f"left the example, then from {classes[attribute.a]} to {classes[attribute.b]} with strength {listed}"
    return _beside(run, split, decode(run, z, title))


def of_class(run: Run, label: int, most: int) -> Split:
    """Return at most `most` of the test examples of a class, drawn at random; of all classes if it has none."""
    examples = run.examples
    rows = torch.empty(0) if examples.y is None else (examples.y == label).nonzero().squeeze(1)
    return (examples.subset(rows) if len(rows) else examples).sample(most)


def attribute_quality(
    run: Run, attribute_of: Attribute, strengths: Sequence[float], classifier: Classifier | None
) -> dict[str, dict[str, float]]:
    """Measure `by_attribute` on up to 500 test examples of class a: strength -> numbers.

    Beside them stand, for strength 1, vectors of the same length between two training rows drawn for each example, and
    the untrained network with its own vector. Codes are compared in the directions orthogonal to the vector.
    """
    names = [run.spec.class_name(i) for i in (attribute_of.a, attribute_of.b)]
    split = of_class(run, attribute_of.a, MEASURED)
    wanted = torch.full((len(split),), attribute_of.b)
    z, vector = run.codes(split), attribute_of.vector
    numbers = {f"strength {s:g}": outcome(run, z + s * vector, wanted, classifier, vector).numbers() for s in strengths}
    first, second = np.random.default_rng(0).choice(run.reference.codes, (2, len(z)))
    random = (first - second) / np.linalg.norm(first - second, axis=1, keepdims=True).clip(1e-12)
    random = (random * np.linalg.norm(vector)).astype(np.float32)
    numbers["random vectors"] = outcome(run, z + random, wanted, classifier, random).numbers()
    initial = untrained(run)
    vector = attribute(initial, *names).vector
    numbers[NAME] = outcome(initial, initial.codes(split) + vector, wanted, classifier, vector).numbers()
    return numbers


def _beside(run: Run, split: Split, decoded: Decoded) -> Decoded:
    """Put the examples themselves in the first column, and their classes, where they are known, before the rows.

    These classes are the labels of the first column, -1 where they are unknown.
    """
    x = split.take(slice(None)).x.cpu().numpy()
    decoded.x[:, 0] = 0
    decoded.x[:, 0, ..., : x.shape[-1]] = x  # token ids are padded to their own length
    y = split.y if split.y is not None else labels_of_rows(run, split)
    labels = [] if y is None else [run.spec.class_name(i) for i in y.tolist()]
    if decoded.y is not None:
        decoded.y.reshape(decoded.z.shape[:-1])[:, 0] = UNLABELLED if y is None else y
    title = decoded.title if len(decoded.title) < TITLE else f"{decoded.title[: TITLE - 3]}..."
    return Decoded(decoded.z, decoded.x, labels, title, decoded.y)
