"""Comparison of groups of runs: means and intervals over seeds, paired differences, and what is said about them."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from autoenc import page
from autoenc.apps.protocol import compare_table, groups
from autoenc.apps.protocol.compare import Row
from autoenc.apps.protocol.compare_plot import _grid, plot
from autoenc.apps.protocol.statistics import holm


def runs(model: str, values: list[float], first: int = 0, **settings: Any) -> list[Row]:
    return [
        Row(f"{model}{i}", "finished", {"model": model, "seed": i} | settings, {"mse": v}, {"mse": v})
        for i, v in enumerate(values, first)
    ]


def test_runs_that_differ_in_seeds_are_a_group_and_a_repeated_seed_is_not_further_evidence() -> None:
    rows = [*runs("ae", [1.0, 2.0, 6.0]), *runs("vae", [4.0]), *runs("ae", [1.0])]
    rows.append(Row("x", "failed", {"model": "ae", "seed": 9}, error="no"))
    found, keys = groups.grouped(rows, ["model", "seed", "data.split_seed"])
    assert keys == ["model"]
    assert [[row.name for row in group.runs] for group in found] == [["ae0", "ae1", "ae2"], ["vae0"], ["ae0"], ["x"]]
    assert found[0].numbers == found[0].val == {"mse": 3.0}


def test_a_metric_that_some_runs_lack_is_the_mean_of_the_others_and_said() -> None:
    rows = runs("ae", [1.0, 2.0, 3.0]) + runs("vae", [1.0, 2.0, 3.0])
    rows[0].numbers["auroc"] = 0.5
    found, keys = groups.grouped(rows, ["model", "seed"])
    assert found[0].numbers["auroc"] == 0.5
    assert groups.cautions(found, keys, ["mse", "auroc"]) == ["auroc is missing in some runs: ae has it in 1 of 3"]


def test_verdicts_say_better_worse_or_that_no_difference_is_shown() -> None:
    base = np.array([1.0, 1.1, 0.9])
    noise = np.array([0.01, -0.02, 0.02])
    rows = runs("ae", list(base)) + runs("vae", list(base + 0.5 + noise)) + runs("dae", list(base + 5 * noise))
    found, keys = groups.grouped(rows, ["model", "seed"])
    head, vae, dae = groups.verdicts(found, keys, "mse", ["mse"])
    assert head == "mse against ae, best by validation mse (paired by seed; p by Holm for 3 comparisons, all pairs):"
    assert re.fullmatch(r"  vae: \+0\.503 ± 0\.05\d*, p = 0\.00\d+: worse", vae)
    assert dae.endswith(": no difference shown")
    assert groups.verdicts(found[:1], keys, "mse", ["mse"]) == [], "there is nothing to compare it with"


def test_the_verdict_is_of_test_values_and_the_choice_of_validation_values() -> None:
    rows = [replace(row, val={"psnr": 1.0 if row.settings["model"] == "ae" else 2.0}, numbers={"psnr": 9.0 + i})
            for i, row in enumerate(runs("ae", [0.0, 0.0, 0.0]))]  # fmt: skip
    rows += [replace(row, val={"psnr": 2.0}, numbers={"psnr": 1.0 + i})
             for i, row in enumerate(runs("vae", [0.0, 0.0, 0.0]))]  # fmt: skip
    found, keys = groups.grouped(rows, ["model", "seed"])
    head, line = groups.verdicts(found, keys, "psnr", ["psnr"])
    assert "against vae, best by validation psnr" in head
    assert line == "  ae: +8 ± 0, the same difference in every seed: no spread to judge by"


def test_the_correction_is_for_all_pairs_and_shared_seeds_are_counted() -> None:
    random = np.random.default_rng(0)
    rows = [row for i, model in enumerate("abcd") for row in runs(model, list(i / 50 + random.normal(0, 0.01, 4)))]
    found, keys = groups.grouped(rows[:-1], ["model", "seed"])
    head, *lines = groups.verdicts(found, keys, "mse", ["mse"])
    assert "p by Holm for 6 comparisons, all pairs" in head
    values = [group.values("mse") for group in found]
    p = holm([stats.ttest_rel(a[: len(b)], b).pvalue for a, b in itertools.combinations(values, 2)])
    assert all(f"p = {expected:.2g}:" in line for line, expected in zip(lines, p[:3], strict=True))
    assert ["shared seeds" in line for line in lines] == [False, False, True]
    assert " over 3 shared seeds, p = " in lines[2]


def test_unfair_comparisons_are_named() -> None:
    rows = [*runs("ae", [1.0], **{"noise.p": 0.1}), *runs("vae", [1.0]), *runs("ae", [2.0], **{"noise.p": 0.2})]
    for row, parameters in zip(rows, (1000, 1600, 1000), strict=True):
        row.numbers["parameters"] = parameters
    found, keys = groups.grouped(rows, ["model", "noise.p"])
    assert groups.cautions(found, keys, ["mse"]) == [
        "groups of one run: differences may be chance; seed=0,1,2 shows the spread",
        "different number of parameters: ae, p=0.1 has 1,000, vae, p=- 1,600",
        "settings tried: ae 2, vae 1: the best of more has an advantage",
    ]


def test_baselines_stand_beside_metrics_of_codes() -> None:
    rows = runs("ae", [1.0, 1.0])
    for row, size in zip(rows, (16, 8), strict=True):
        row.numbers.update({"probes.codes.5-nn": 0.9, "probes.untrained.5-nn": 0.5})
        row.numbers[f"probes.PCA-{size}.5-nn"] = 10 / size
    columns = dict(compare_table.Comparison(rows, ["seed"], "mse", ["probes.codes.5-nn"]).columns)
    baseline = [name for name in columns if name.startswith("probes.")]
    assert baseline == [f"probes.{name}.5-nn ↑" for name in ("codes", "untrained", "PCA")]
    assert columns["probes.PCA.5-nn ↑"] == ["0.9 ± 4.0"], "mean and interval, of the size of the code, whatever that is"
    assert not any("PCA.5" in name for row in rows for name in row.numbers), "the rows are not changed"


def test_plots_have_intervals_curves_and_a_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "split": "train", "mse": 9.0}\n'
        '{"step": 1, "split": "val", "mse": 0.02}\n{"step": 3, "split": "val", "mse": 0.01}\n'
    )
    rows = [
        replace(row, folder=tmp_path)
        for dim in (2, 4)
        for p in (0.1, 0.3)
        for row in runs("ae", [dim + p, dim + p + 1], **{"model.latent_dim": dim, "noise.p": p})
    ]
    assert plot(rows, ["model.latent_dim", "noise.p", "seed"], tmp_path / "a.png", "mse")
    mse, curves, grid, _ = drawn[0].axes
    assert [len(line.get_xdata()) for line in mse.containers[0].lines[1]] == [2, 2], "caps of two intervals"
    assert [list(line.get_xdata()) for line in curves.lines] == [[1, 3]] * 8
    assert np.asarray(grid.images[0].get_array()).tolist() == [[2.6, 4.6], [2.8, 4.8]]
    assert curves.get_yscale() == "linear", "less than a decade"
    assert len({line.get_linestyle() for line in curves.lines}) == 2, "code sizes differ"
    assert [text.get_text() for text in curves.texts] == ["latent 2"], "all end at one place"
    assert len({axes.get_title() for axes in drawn[0].axes[:-1]}) == len(drawn[0].axes) - 1
    for value in (0.9, 30.0):
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(f'{{"step": 5, "split": "val", "mse": {value}}}\n')
    assert plot([replace(row) for row in rows], ["model.latent_dim", "noise.p", "seed"], tmp_path / "a.png", "mse")
    curves = drawn[1].axes[1]
    assert curves.get_yscale() == "log"
    ticks = [label.get_text() for label in [*curves.get_yticklabels(), *curves.get_yticklabels(minor=True)]]
    assert not any("$" in text or text.lstrip("0.")[:1] not in {"", "1", "2", "5"} for text in ticks), ticks


def test_a_map_has_lists_as_values_and_needs_every_pair_of_settings() -> None:
    def grid(*settings: tuple[list[int], float]) -> Any:
        rows = [row for hidden, p in settings for row in runs("ae", [p], **{"network.hidden": hidden, "noise.p": p})]
        return _grid(groups.grouped(rows, ["network.hidden", "noise.p"])[0], ["network.hidden", "noise.p"], "mse")

    hidden, p, values = grid(([64], 0.1), ([64], 0.3), ([128], 0.1), ([128], 0.3))
    assert (hidden, p, values.tolist()) == (["[128]", "[64]"], ["0.1", "0.3"], [[0.1, 0.1], [0.3, 0.3]])
    assert grid(([64], 0.1), ([64], 0.1), ([64], 0.3), ([128], 0.1)) is None, "a repeat is no missing pair"


def test_the_page_is_one_file_with_everything_escaped(tmp_path: Path) -> None:
    rows = [replace(row, command="python train.py data.path='<b>'") for row in runs("<ae>", [1.0, 2.0])]
    written = compare_table.write(compare_table.Comparison(rows, ["seed"], "mse", ()), tmp_path)
    assert [path.name for path in written] == ["comparison.csv", "comparison.png", "comparison.html"]
    text = written[2].read_text()
    assert "&lt;ae&gt;0" in text
    assert "<ae>" not in text
    assert "<b>" not in text
    assert "data:image/png;base64," in text
    assert not re.search(r"(?:src|href)=[\"']?(?:http|/)", text), "it needs no network and no other file"


def test_pages_keep_indents_and_align_numbers() -> None:
    assert page.lines(["a <", "  b"]) == "<p>a &lt;<br>&emsp;&emsp;b</p>"
    assert page.table(["x"], [[1.5], ["1 to 2 of it"], ["a"]]).count("<td class=n>") == 2
