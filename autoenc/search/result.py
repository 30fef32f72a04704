"""What a search leaves: default beside tuned, all trials, Optuna's plots."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from autoenc.apps.protocol import compare_table
from autoenc.apps.protocol.compare import Row, ranked, read_run
from autoenc.apps.protocol.compare_table import Comparison, print_comparison
from autoenc.files import atomic, write_json, write_text
from autoenc.metric_table import metric
from autoenc.screen import console
from autoenc.search.goals import shown
from autoenc.search.plan import Variant
from autoenc.search.space import written
from autoenc.search.study import DEFAULT, ERROR, RUN, Search
from autoenc.text import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRIALS, RESULT = "trials.csv", "result.json"
FILES = (*compare_table.FILES, TRIALS, RESULT)
FRONT = 8  # trials of a Pareto front whose commands are printed
WIDTH = 2.6  # inches of one axes of several
LEGEND = 12  # trials that a legend names
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


def show(search: Search) -> dict[str, Any]:
    """Print the result, write its files, and return what result.json has."""
    screen, plan = console(), search.plan
    keys = ["model", *plan.space]
    first = next(goal for goal in plan.goals if goal.part == "val")
    rows = ranked([row for variant in plan.variants for row in _rows(search, variant)], first.name)
    names = [goal.name for goal in plan.goals]
    remedy = "--seeds 3 repeats them with other seeds" if len(plan.goals) == 1 else "the front is of one seed"
    compared = Comparison(rows, keys, first.name, names, remedy)
    compared.columns = [column for column in compared.columns if column[0] != "run"]
    compared.remarks += [f"{goal.label}: {metric(goal.name).meaning}" for goal in plan.goals]
    variants = {variant.name: _result(search, variant) for variant in plan.variants}
    compared.remarks += [line for name, found in variants.items() for line in _lines(name, found)]
    results = {"metrics": [goal.label for goal in plan.goals], "variants": variants}
    compare_table.write(compared, plan.folder, keys[:1])
    write_text(plan.folder / TRIALS, trials_csv(search))
    write_json(plan.folder / RESULT, results)
    print_comparison(compared, screen)
    drawn = [path for variant in plan.variants for path in plots(search, variant)]
    screen.print(f"{', '.join(FILES)} and {len(drawn)} of Optuna's plots in {plan.folder}", soft_wrap=True)
    return results


def _rows(search: Search, variant: Variant) -> list[Row]:
    """Return the runs with the default and with the best settings: those with seeds of their own, if there are any."""
    several = len(search.plan.goals) > 1
    found = [trial for trial in search.best(variant) if DEFAULT not in trial.user_attrs]
    settings = [(f"trial {trial.number}" if several else "tuned", trial) for trial in found]
    rows = []
    for name, trial in ((DEFAULT, None), *settings):
        repeated = search.repeated(variant, trial)
        for path in repeated or [search.run_of(variant, trial)]:
            row = read_run(path, whole=True)
            kept = {key: row.settings[key] for key in search.plan.space if key in row.settings}
            label = f"{variant.name} {name}"
            given = {"model": label, **kept, "seed": row.settings.get("seed")}
            rows.append(replace(row, name=label, settings=given))
    return rows


def _result(search: Search, variant: Variant) -> dict[str, Any]:
    """Return how many trials ended how, and the best: one, or those on the Pareto front."""
    trials, goals = search.trials(variant), search.plan.goals
    best = [
        {
            "trial": DEFAULT if DEFAULT in trial.user_attrs else trial.number,
            "metrics": dict(zip((goal.label for goal in goals), trial.values, strict=True)),
            "run": str(search.run_of(variant, trial)),
            "command": shlex.join(["python", "train.py", *search.settings(variant, trial)]),
        }
        for trial in search.best(variant)
    ]
    counts = {word: sum(trial.state == state for trial in trials) for state, word in STATES.items()}
    return {"trials": {"total": len(trials), **counts}, "best": best}


def _lines(name: str, found: dict[str, Any]) -> list[str]:
    """Return how many trials ended how, and the commands of the best."""
    total, *counts = found["trials"].items()
    lines = [f"{name}: {total[1]} trials: {', '.join(f'{n} {word}' for word, n in counts if n) or 'none has ended'}"]
    if found["trials"]["running"]:
        lines.append("  the same command shows the result when the other processes have ended")
    for best in found["best"][:FRONT]:
        numbers = ", ".join(f"{label} {shown(value)}" for label, value in best["metrics"].items())
        which = "the default, better than every trial" if best["trial"] == DEFAULT else f"trial {best['trial']}"
        if len(best["metrics"]) > 1:
            which = f"on the Pareto front: {which.partition(',')[0]}"
        lines += [f"  {which}, {numbers}", f"  {best['command']}"]
    return lines + [f"  {len(found['best']) - FRONT} more in result.json"] * (len(found["best"]) > FRONT)


def trials_csv(search: Search) -> str:
    """Return all trials as CSV: variant, trial, state, the space, the metrics, the run and the error."""
    plan = search.plan
    records: list[list[Any]] = [
        ["variant", "trial", "state", *plan.space, *(g.label for g in plan.goals), "run", "error"]
    ]
    for variant in plan.variants:
        front = {t.number for t in search.best(variant)}
        for trial in search.studies[variant.name].get_trials(deepcopy=False):
            state = STATES[trial.state] + (", best" if trial.number in front else "")
            values = trial.values if trial.state == TrialState.COMPLETE else None
            params = [written(trial.params[key]) if key in trial.params else "" for key in plan.space]
            cells = [*params, *(values or [""] * len(plan.goals)), trial.user_attrs.get(RUN, "")]
            number = DEFAULT if DEFAULT in trial.user_attrs else trial.number
            records.append([variant.name, number, state, *cells, trial.user_attrs.get(ERROR, "")])
    return csv_text(records)


def plots(search: Search, variant: Variant) -> list[Path]:
    """Draw Optuna's plots of a variant into figures/; return those that could be drawn."""
    import matplotlib
    from optuna.visualization import matplotlib as drawing

    study, goals, keys = search.studies[variant.name], search.plan.goals, search.plan.space
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
        return []
    matplotlib.use("Agg")
    folder = search.plan.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = []

    def draw(name: str, suffix: str = "", **options: Any) -> None:
        path = folder / f"{variant.name}_{name}{suffix}.png"
        drawn.append(_save(path, lambda: getattr(drawing, f"plot_{name}")(study, **options)))

    for i, goal in enumerate(goals):
        several = {"target": lambda trial, i=i: trial.values[i]} if len(goals) > 1 else {}
        for name in ("optimization_history", "param_importances", "slice", *["parallel_coordinate"] * (len(keys) > 1)):
            draw(name, f"_{goal.name}" if several else "", target_name=goal.label, **several)
    if len(goals) > 1:
        draw("pareto_front", target_names=[goal.label for goal in goals])
    elif any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        draw("intermediate_values")
    return [path for path in drawn if path is not None]


def _save(path: Path, draw: Callable[[], Any]) -> Path | None:
    """Save one plot; None if Optuna cannot draw it, such as importances where all trials have the same value."""
    from matplotlib import pyplot

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these plots are marked as experimental
            axes = draw()
        figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
        figure.set_figwidth(max(figure.get_figwidth(), WIDTH * len(figure.axes)))
        for axes in figure.axes:
            _tidy(axes)
        with atomic(path) as file:
            figure.savefig(file, format="png", dpi=120, bbox_inches="tight")
        return path
    except (ValueError, RuntimeError, ZeroDivisionError):
        return None
    finally:
        pyplot.close("all")


def _power(value: float, position: object = None) -> str:
    """Return a number of a logarithmic axis in few characters: 5e-4, 0.01, 20."""
    return f"{value:g}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")


def _tidy(axes: Axes) -> None:
    """Give an axes of Optuna whole trials and epochs, readable logarithms, and no legend that fills the figure."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axes.get_xlabel() in ("Trial", "Step"):
        axes.set_xlabel("trial" if axes.get_xlabel() == "Trial" else "epoch")
        axes.locator_params(axis="x", integer=True)
    for scale, axis, (low, high) in (
        (axes.get_xscale(), axes.xaxis, axes.get_xlim()),
        (axes.get_yscale(), axes.yaxis, axes.get_ylim()),
    ):
        if scale == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            axis.set_major_formatter(FuncFormatter(_power))
            axis.set_minor_formatter(NullFormatter())
    if (legend := axes.get_legend()) is not None and len(legend.get_texts()) > LEGEND:
        legend.remove()
