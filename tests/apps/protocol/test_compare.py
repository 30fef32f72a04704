"""Comparison: reading runs, ranking them, and the settings in which they differ."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from autoenc.apps.protocol import compare, compare_plot
from autoenc.apps.protocol.compare import Row
from autoenc.canvas import new_figure
from autoenc.errors import ConfigError, DataError


def done(name: str, settings: dict[str, Any], **val: float) -> Row:
    return Row(name, "finished", settings, val, {"mse": 1.0})


def test_runs_of_two_models_differ_in_the_model_and_not_in_its_options(
    ae_run: Path, vae_run: Path, dae_run: Path
) -> None:
    rows = compare.read_runs([ae_run, vae_run])
    assert compare.differing(rows) == ["model"]
    rows = compare.read_runs([ae_run, vae_run, dae_run])
    assert compare.differing(rows) == ["model", "model.latent_dim"]
    assert [row.settings["model"] for row in rows] == ["ae", "vae", "dae"]
    assert len({row.name for row in rows}) == 3


def test_a_setting_that_a_run_lacks_is_shown() -> None:
    plain, weak, strong = ({"noise": "none"}, {"noise": "mask", "noise.p": 0.3}, {"noise": "mask", "noise.p": 0.5})
    assert compare.differing([done("a", plain), done("b", weak), done("c", strong)]) == ["noise", "noise.p"]
    assert compare.differing([done("a", plain), done("b", weak)]) == ["noise"], "p follows from the noise"
    assert compare.differing([done("a", {"seed": 0}), done("b", {"seed": 0, "new.option": 1})]) == ["new.option"]
    failed = Row("c", "failed", {"seed": 0})
    assert compare.differing([done("b", {"seed": 0, "new.option": 1}), failed]) == [], "it did not get so far"


def test_settings_of_the_machine_do_not_count() -> None:
    assert compare.differing([done("a", {"trainer.threads": 1}), done("b", {"trainer.threads": 2})]) == []


def test_runs_are_ranked_by_validation_and_never_by_test() -> None:
    good_test = Row("a", "finished", {}, {"mse": 2.0, "psnr": 10.0}, {"mse": 0.1, "auroc": 0.5})
    good_val = Row("b", "finished", {}, {"mse": 1.0, "psnr": 20.0}, {"mse": 0.9})
    none = Row("c", "finished", {}, {}, {"mse": 0.01})
    rows = [none, good_test, good_val]
    assert [row.name for row in compare.ranked(rows, "mse")] == ["b", "a", "c"]
    assert [row.name for row in compare.ranked(rows, "psnr")] == ["b", "a", "c"]
    assert compare.best(rows, "mse") is compare.best(rows, "psnr") is good_val
    assert compare.best([good_val, none], "mse") is None, "there is nothing to compare it with"
    assert compare.best(rows, "auroc") is None, "it has no validation value"
    with pytest.raises(
        ConfigError, match=r"^--sort=auroc: is of the test split only; rank by one of mse, psnr; --show"
    ):
        compare.ranked(rows, "auroc")
    with pytest.raises(ConfigError, match=r"^--sort=mze: no run has this metric; did you mean 'mse'\?"):
        compare.ranked(rows, "mze")


def test_validation_test_and_evaluation_metrics_are_read(ae_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(ae_run, tmp_path / "run"))
    (run / "evaluation.json").write_text(json.dumps({"probes": {"codes": {"logistic": 0.5}}, "skipped": {"a": "b"}}))
    (row,) = compare.read_runs([tmp_path])
    summary = json.loads((run / "summary.json").read_text())
    assert row.val == summary["val"]
    assert row.numbers["mse"] == summary["test"]["mse"] != row.val["mse"]
    assert row.numbers["probes.codes.logistic"] == 0.5
    assert "skipped.a" not in row.numbers


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("evaluation.json", "{"),
        ("summary.json", "[1]"),
        ("summary.json", "{}"),
        ("summary.json", '{"val": 3}'),
        ("config.yaml", "a: [1"),
        ("config.yaml", "text"),
    ],
)
def test_a_damaged_run_is_a_row_with_its_error(file: str, text: str, ae_run: Path, tmp_path: Path) -> None:
    shutil.copytree(ae_run, tmp_path / "whole")
    shutil.copytree(ae_run, tmp_path / "damaged")
    (tmp_path / "damaged" / file).write_text(text)
    damaged, whole = compare.ranked(compare.read_runs([tmp_path]), "mse")[::-1]
    assert (damaged.state, whole.state, damaged.numbers) == ("damaged", "finished", {})
    assert str(tmp_path / "damaged") in damaged.error


def test_jobs_are_in_the_order_of_their_numbers_and_each_is_there_once(tmp_path: Path) -> None:
    for name in ("10_a=1", "2_a=1", "1_a=1"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "run.json").write_text('{"state": "failed"}')
    found = compare.runs_in([tmp_path / "sweep", tmp_path / "sweep" / "2_a=1"])
    assert [path.name for path in found] == ["1_a=1", "2_a=1", "10_a=1"]
    with pytest.raises(DataError, match="has no run in it"):
        compare.runs_in([Path(__file__).parent])
    with pytest.raises(DataError, match="no such directory"):
        compare.runs_in([tmp_path / "nothing"])


@pytest.mark.usefixtures("as_for_users")
def test_no_text_of_the_plot_lies_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(compare_plot, "new_figure", lambda *size: figures.append(new_figure(*size)) or figures[-1])
    rows = [
        Row(f"{model}{k}", "finished", {"model": model, "model.latent_dim": k}, {}, {})
        for model in ("ae", "vae", "iwae")
        for k in (2, 4)
    ]
    for row, e in zip(rows, (0, 0, 1e-4, 1e-4, 2e-4, 2e-4), strict=True):
        row.numbers["mse"] = (1 + e) / row.settings["model.latent_dim"]
    assert compare_plot.plot(rows, ["model", "model.latent_dim"], tmp_path / "plot.png", "mse")
    boxes = [text.get_window_extent() for text in figures[0].axes[0].texts]
    assert 2 <= len(boxes) < 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
