"""Groups of runs that differ only in their seeds: means, intervals, and whether a difference is more than chance."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from autoenc.apps.protocol.compare import Row, best, run_label, short
from autoenc.apps.protocol.statistics import LEVEL, Difference, difference, holm
from autoenc.metric_table import metric as metric_row
from autoenc.text import ranges

SEEDS = ("seed", "labels_seed", "data.split_seed", "data.data_seed")
MORE_SEEDS = "seed=0,1,2 shows the spread"
LISTED = 8  # comparisons that have a line each
BASELINES = ("untrained", "PCA", "raw")


@dataclass(frozen=True)
class Group(Row):
    """Runs with the same settings and different seeds; `val` and `numbers` are means over them."""

    runs: tuple[Row, ...] = ()

    def values(self, name: str) -> list[float]:
        """Return a metric of the runs that have it."""
        return [row.numbers[name] for row in self.runs if name in row.numbers]

    def by_seed(self, name: str) -> dict[Hashable, float]:
        """Return a metric of the runs that have it, by their seeds."""
        return {_seeds(row): row.numbers[name] for row in self.runs if name in row.numbers}

    def curves(self, name: str) -> list[list[tuple[int, float]]]:
        """Return a validation metric over the steps, (step, value), of each run that has it in its metrics.jsonl."""
        found = [[(step, v[name]) for step, v in row.validation if name in v] for row in self.runs]
        return [curve for curve in found if curve]

    def label(self, keys: Sequence[str]) -> str:
        """Return the values of the settings, in one line."""
        return ", ".join(short(self.settings.get(k, "-")) for k in keys) or "all"

    def described(self, keys: Sequence[str]) -> str:
        """Return the settings in one line: vae, latent_dim=8."""
        parts = (f"{k.rpartition('.')[2]}={short(self.settings.get(k, '-'))}".removeprefix("model=") for k in keys)
        return ", ".join(parts) or "all"


def grouped(rows: Sequence[Row], keys: Iterable[str]) -> tuple[list[Group], list[str]]:
    """Group the finished runs that differ only in their seeds.

    Args:
        keys: the settings in which the runs differ.

    Returns:
        the groups, in the order of their first run; the keys without the seeds. An unfinished run is alone, and a run
        that repeats a seed is of another group: it is no further evidence.
    """
    keys = [k for k in keys if k not in SEEDS]
    found: dict[tuple[str, ...], list[Row]] = {}
    for i, row in enumerate(rows):
        settings = tuple(str(row.settings.get(k)) for k in keys)
        part = f"unfinished {i}" if not row.numbers or row.state != "finished" else "0"
        while part.isdigit() and any(_seeds(r) == _seeds(row) for r in found.get((*settings, part), ())):
            part = str(int(part) + 1)
        found.setdefault((*settings, part), []).append(row)
    return [_group(runs) for runs in found.values()], keys


def _group(runs: Sequence[Row]) -> Group:
    first = runs[0]
    return Group(
        _name([run_label(row) for row in runs]),
        first.state,
        first.settings,
        _means([row.val for row in runs]),
        _means([row.numbers for row in runs]),
        error=first.error,
        runs=tuple(runs),
    )


def _means(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the runs that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: statistics.fmean(part[name] for part in parts if name in part) for name in names}


def _name(labels: list[str]) -> str:
    """Return the labels of the runs of a group in few characters: 0-2, 4."""
    if len(labels) == 1:
        return labels[0]
    if not all(label.isdigit() for label in labels):
        return f"{labels[0]} and {len(labels) - 1} more"
    return ranges(map(int, labels))


def named_alike(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with `probes.PCA-16.logistic`, of a run with 16 dimensions, as `probes.PCA.logistic` too."""
    numbers = [{re.sub(r"\.PCA-\d+\.", ".PCA.", k): v for k, v in row.numbers.items()} | row.numbers for row in rows]
    return [row if more == row.numbers else replace(row, numbers=more) for row, more in zip(rows, numbers, strict=True)]


def with_baselines(groups: Sequence[Group], names: Iterable[str]) -> list[str]:
    """Return the metrics, those of codes followed by the same of the untrained network, PCA and raw input; mse by those
    of PCA and of the mean of the data.

    Args:
        groups: of rows that are `named_alike`.
    """
    found = dict[str, None]()
    for name in names:
        beside = [name.replace(".codes.", f".{baseline}.") for baseline in BASELINES if ".codes." in name]
        beside += ["mse_pca", "mse_mean"] * (name == "mse")
        found |= dict.fromkeys([name, *(n for n in beside if any(n in group.numbers for group in groups))])
    return list(found)


def _seeds(row: Row) -> tuple[str, ...]:
    return tuple(str(row.settings.get(key)) for key in SEEDS)


def verdicts(groups: Sequence[Group], keys: Sequence[str], metric: str, names: Sequence[str]) -> list[str]:
    """Compare the test metrics of every group with those of the group that is best by the validation metric, in words.

    All groups are of the same runs, and which of them is best is not known beforehand. The p-values are therefore
    corrected for the comparisons of all pairs of groups, k (k - 1) / 2 of k, of which those with the best are shown.
    """
    first = best(groups, metric)
    if first is None:
        return []
    lines = []
    for name in names:
        compared = [
            (a, b, d)
            for a, b in combinations([first, *(g for g in groups if g is not first)], 2)
            if (d := difference(a.by_seed(name), b.by_seed(name)))
        ]
        judged = [d.p for *_, d in compared if d.p is not None]
        corrected = iter(holm(judged))
        found = [(a, b, d, None if d.p is None else next(corrected)) for a, b, d in compared]
        pairs = [(g, d, p) for a, g, d, p in found if a is first]
        if not pairs:
            continue
        how = "paired by seed" if all(d.pairs for _, d, _ in pairs) else "not all paired by seed"
        many = f"; p by Holm for {len(judged)} comparisons, all pairs" if len(judged) > 1 else ""
        lines.append(f"{name} against {first.described(keys)}, best by validation {metric} ({how}{many}):")
        if len(pairs) <= LISTED:
            for g, d, p in pairs:
                most = max(len(first.by_seed(name)), len(g.by_seed(name)))
                over = f" over {d.pairs} shared seeds" if 0 < d.pairs < most else ""
                judgment = "the same difference in every seed" if p is None else f"p = {p:.2g}"
                text = f"{g.described(keys)}: {d.mean:+.3g} ± {d.half:.2g}{over}"
                lines.append(f"  {text}, {judgment}: {_word(name, d, p)}")
        else:
            labels: dict[str, list[str]] = {}
            for g, d, p in pairs:
                labels.setdefault(_word(name, d, p), []).append(g.described(keys))
            lines += [f"  {word}: {'; '.join(listed)}" for word, listed in labels.items()]
    return lines


def _word(name: str, found: Difference, p: float | None) -> str:
    if p is None:
        return "no spread to judge by"
    if p >= LEVEL:
        return "no difference shown"
    sign = metric_row(name).sign if metric_row(name).higher_is_better is not None else 0
    return {0: "different", 1: "worse", -1: "better"}[int(math.copysign(1, sign * found.mean)) if sign else 0]


def cautions(groups: Sequence[Group], keys: Sequence[str], names: Sequence[str], remedy: str = MORE_SEEDS) -> list[str]:
    """Return what makes the comparison unfair or uncertain, in words: single runs, other sizes, more trials.

    Args:
        remedy: for groups of one run, in words.
    """
    done = [g for g in groups if g.numbers]
    if len(done) < 2:
        return []
    lines = []
    if any(len(g.runs) == 1 for g in done):
        lines.append(f"groups of one run: differences may be chance; {remedy}")
    sizes = {g.described(keys): g.numbers["parameters"] for g in done if "parameters" in g.numbers}
    steps = {
        g.described(keys): float(max(s)) for g in done if (s := [r.validation[-1][0] for r in g.runs if r.validation])
    }
    for word, values, factor in (("parameters", sizes, 1.5), ("training steps", steps, 1.0)):
        if values and max(values.values()) > factor * min(values.values()):
            few, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
            lines.append(f"different number of {word}: {few} has {values[few]:,.0f}, {most} {values[most]:,.0f}")
    for name in names:
        partly = [
            f"{g.described(keys)} has it in {n} of {len(g.runs)}"
            for g in done
            if 0 < (n := len(g.values(name))) < len(g.runs)
        ]
        if partly:
            lines.append(f"{name} is missing in some runs: {', '.join(partly)}")
    tried: dict[str, int] = {}
    for g in done:
        tried[str(g.settings.get("model"))] = tried.get(str(g.settings.get("model")), 0) + 1
    if len(tried) > 1 and len(set(tried.values())) > 1:
        counts = ", ".join(f"{model} {count}" for model, count in tried.items())
        lines.append(f"settings tried: {counts}: the best of more has an advantage")
    return lines
