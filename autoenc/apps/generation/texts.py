"""Generation of texts: samples, interpolations and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.generation import density as densities
from autoenc.apps.generation.density import Density
from autoenc.apps.generation.generate import labels_of, labels_of_rows
from autoenc.apps.generation.neighbours import training
from autoenc.apps.generation.paths import between, check_path
from autoenc.apps.inputs import example
from autoenc.data.split import PAD, Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.networks import decoding as search
from autoenc.networks.sequence import Decoder
from autoenc.seeds import derived

BATCH = 100  # codes, times the width of the beam
COMPARED = 500  # samples in `quality`


@dataclass(frozen=True)
class Writing:
    """A method of decoding: by default the most likely token at each step.

    Args:
        temperature, top_p: sampling, see `search.sample`.
        beam: width of a beam search for the most likely text.
    """

    temperature: float | None = None
    top_p: float | None = None
    beam: int | None = None

    def __post_init__(self) -> None:
        require(self.temperature is None or 0 <= self.temperature < np.inf, "--temperature", self.temperature,
                "must be 0 or more")  # fmt: skip
        require(self.top_p is None or 0 < self.top_p <= 1, "--top-p", self.top_p, "must lie in (0, 1]")
        require(self.beam is None or self.beam >= 1, "--beam", self.beam, "must be 1 or more")
        if self.beam is not None and self.kind == "sample":
            raise UserError(
                "--beam searches for the most likely text, --temperature and --top-p sample one; use one of them"
            )

    @property
    def kind(self) -> Literal["greedy", "sample", "beam"]:
        """Name of the method."""
        if self.temperature is not None or self.top_p is not None:
            return "sample"
        return "greedy" if self.beam is None else "beam"

    def __str__(self) -> str:
        if self.kind == "sample":
            return f"tokens sampled at temperature {self._temperature:g}, top-p {self._top_p:g}"
        return f"beam search, width {self.beam}" if self.kind == "beam" else "the most likely token at each step"

    @property
    def _temperature(self) -> float:
        return 1.0 if self.temperature is None else self.temperature

    @property
    def _top_p(self) -> float:
        return 1.0 if self.top_p is None else self.top_p

    def __call__(self, decoder: Decoder, z: Tensor, generator: torch.Generator) -> Tensor:
        """Decode codes: (N, K) -> (N, T) ids."""
        if self.kind == "sample":
            return search.sample(decoder, z, self._temperature, self._top_p, generator)
        return search.greedy(decoder, z) if self.beam is None else search.beam(decoder, z, self.beam)


@dataclass(frozen=True)
class Written:
    """Codes (N, K), the ids (N, T) decoded from them, and their texts."""

    z: np.ndarray
    ids: np.ndarray
    texts: list[str]


def check(run: Run) -> None:
    """Raise UserError unless the run decodes texts."""
    if not isinstance(run.model.decoder, Decoder):
        raise UserError(f"{run.path}: does not decode texts; train a run with data=text network=sequence")


def write(run: Run, z: np.ndarray, how: Writing | None = None, seed: int = 0, y: Tensor | None = None) -> Written:
    """Decode codes (N, K) to texts; samples are determined by the seed.

    Args:
        y: labels (N,) for a conditional model.

    Raises:
        UserError: the run does not decode texts.
    """
    check(run)
    how, decoder = how or Writing(), run.model.decoder
    assert isinstance(decoder, Decoder)
    generator = torch.Generator(run.device).manual_seed(derived(seed))  # not the numbers that z was drawn with
    codes = torch.from_numpy(z.astype(np.float32)).to(run.device)
    with torch.no_grad():
        codes = run.model.joined(codes, None if y is None else y.to(run.device))
    parts = [how(decoder, part, generator).cpu() for part in codes.split(max(1, BATCH // (how.beam or 1)))]
    ids = torch.cat(parts)
    return Written(z, ids.numpy(), run.spec.kind.decode(ids))


def samples(
    run: Run,
    n: int,
    density: str | Density | None = None,
    seed: int = 0,
    how: Writing | None = None,
    classes: Sequence[str] = (),
) -> Written:
    """Sample n texts, from the prior or from a density fitted to the training codes; of the classes, if any."""
    check(run)
    if density is None or isinstance(density, str):
        density = densities.of(run, density)
    return write(run, density.sample(n, seed), how, seed, labels_of(run, classes, n, seed))


def sentence(run: Run, text: str) -> Split:
    """Return one example: the test example of that number, or the text itself.

    Raises:
        UserError: no such test example, or an empty text.
    """
    check(run)
    if text.lstrip("-").isdigit():
        return example(run, int(text))
    if not text.strip():
        raise UserError("--interpolate: expected a sentence or the number of a test example, found an empty text")
    return run.inputs([text], "--interpolate")


def interpolate(
    run: Run, a: str, b: str, steps: int = 11, how: Writing | None = None, seed: int = 0, sphere: bool = False
) -> Written:
    """Interpolate between the codes of two texts (Bowman et al. 2016, sec. 4.3).

    The ends are the reconstructions of a and b: texts, or numbers of test examples.

    Args:
        sphere: along the sphere, see `paths.slerp`, in place of the straight line.
    """
    check_path(run, steps)
    ends = [run.codes(sentence(run, text))[0] for text in (a, b)]
    return write(run, between(ends[0], ends[1], steps, sphere), how, seed)


def reconstructions(run: Run, split: Split, how: Writing | None = None, seed: int = 0) -> tuple[list[str], Written]:
    """Return the texts of a split and their reconstructions."""
    check(run)
    return run.spec.kind.decode(split.tensor), write(run, run.codes(split), how, seed, labels_of_rows(run, split))


def size(run: Run) -> int:
    """Return the number of texts to compare: 500, or that of the validation split."""
    return min(COMPARED, len(run.data.val))


def quality(run: Run, density: Density, seed: int = 0, how: Writing | None = None) -> dict[str, dict[str, float]]:
    """Compare samples, `size` of them, with as many validation texts: {samples, validation} -> numbers.

    words: mean number of tokens of a text, including its end. distinct: fraction of different texts. words_used: number
    of different tokens. in_training: fraction of texts that occur in the training split; memorized if it is higher than
    for validation texts. nearest, memorized: see `Training.memorization`.
    """
    n = size(run)
    train = set(_rows(run.data.train.tensor))
    sets = {
        "samples": torch.from_numpy(samples(run, n, density, seed, how).ids),
        "validation": run.data.val.sample(n).tensor.cpu(),
    }
    numbers = training(run).memorization({name: Split(ids) for name, ids in sets.items()})
    for name, ids in sets.items():
        rows = _rows(ids)
        numbers[name] |= {
            "words": float((ids != PAD).sum()) / n,
            "distinct": len(set(rows)) / n,
            "words_used": float(len(ids.unique())),
            "in_training": sum(row in train for row in rows) / n,
        }
    return numbers


def _rows(ids: Tensor) -> list[tuple[int, ...]]:
    """Return texts without padding."""
    return [tuple(i for i in row if i != PAD) for row in ids.tolist()]
