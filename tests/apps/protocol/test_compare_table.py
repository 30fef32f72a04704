"""Comparison: what the table, the CSV and the plot show."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from autoenc.apps.protocol import compare, compare_table
from autoenc.apps.protocol.compare import Row
from autoenc.apps.protocol.compare_plot import plot

ROWS = [
    Row("a", "finished", {"noise": "masking", "noise.p": 0.3}, {"mse": 0.1, "psnr": 1.0}, {"mse": 0.5, "psnr": 3.0}),
    Row("b", "finished", {"noise": "none"}, {"mse": 0.2, "psnr": 2.0}, {"mse": 0.4, "psnr": 2.0}),
    Row("c", "finished", {"noise": "none"}, {}, {"mse": 0.3}),
    Row("d", "damaged", {}, error="d: summary.json is damaged: not JSON"),
]


def printed(rows: Sequence[Row], keys: Sequence[str], width: int, show: Sequence[str] = ()) -> str:
    screen = Console(width=width, soft_wrap=True, highlight=False)
    with screen.capture() as text:
        compare_table.print_comparison(compare_table.Comparison(rows, keys, "mse", show), screen)
    return text.get()


def cells(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_has_validation_and_test_marks_and_dashes() -> None:
    text = printed(ROWS, ["noise", "noise.p"], 120)
    assert cells(text, "a") == ["a", "masking", "0.3", "0.1", "0.5*", "3", "finished"]
    assert cells(text, "b") == ["b", "none", "-", "0.2", "0.4", "2*", "finished"], "best by validation, not by test"
    assert cells(text, "c") == ["c", "none", "-", "none", "0.3", "", "finished"]
    for line in (
        "Ranked by validation mse, lowest first; the other metrics are of the test split",
        "* best by the validation value of the metric, not by the test value",
        "- the run has no such setting",
        "↓ lower is better; ↑ higher is better; [dB] decibels",
        "no validation mse, therefore last and not ranked: c",
        "d damaged: d: summary.json is damaged: not JSON",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_long_names_leave_room_for_the_settings(width: int) -> None:
    keys = ["model", "noise", "regularizer.kl.free_bits", "network.activation", "optimizer.weight_decay"]
    name = "a_very_long_name_of_a_run_directory/2026-11-27_10-00-00"
    settings = dict.fromkeys(keys, "an_option_with_a_long_name")
    numbers = {"mse": 0.123456, "denoise_psnr": 12.3456, "probes.codes.logistic_100": 0.98765, "active_units": 12.0}
    rows = [Row(name, "finished", settings, numbers, numbers), Row("b", "finished", {}, numbers, numbers)]
    text = printed(rows, keys, width, show=["probes.codes.logistic_100"])
    table = [line for line in text.splitlines() if line and line[0] in "│┃┏┡└"]
    assert max(map(len, table)) <= width
    assert text.count("│ an_option_with_a_lon") >= 1
    for word in ("free_bits", "weight_decay", "activation", "logistic_100", "denoise_psnr", "0.98765"):
        assert word in text, "no word is folded within"


def test_the_csv_has_every_metric(ae_run: Path, vae_run: Path) -> None:
    rows = compare.read_runs([ae_run, vae_run])
    (first, second) = csv.DictReader(compare_table.metrics_csv(rows, compare.differing(rows)).splitlines())
    assert (first["model"], second["model"], first["kl"]) == ("ae", "vae", "")
    assert float(second["kl"]) == rows[1].numbers["kl"]
    assert float(second["val.mse"]) == rows[1].val["mse"]


def test_the_plot_has_every_run_and_labels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    kl = {"kl": 3.0, "nll": 2.0, "mse": 0.1}
    apart = [kl | {"kl": i, "nll": nll} for i, nll in enumerate((1, 3, 4, 2))]
    rows = [Row(str(i), "finished", {"model.latent_dim": 2**i, "noise.p": i % 2}, {}, apart[i]) for i in range(4)]
    assert plot(rows, ["model.latent_dim", "noise.p"], tmp_path / "a.png", "mse")
    mse, _, rate = drawn[0].axes
    assert all(text.get_path_effects() for text in mse.texts), "lines do not cross texts"
    assert [len(line.get_xdata()) for line in mse.lines] == [2, 2]
    assert [tick.get_text() for tick in mse.get_xticklabels()] == ["1", "2", "4", "8"]
    assert (mse.get_xlabel(), mse.get_ylabel()) == ("latent dimension", "mse ↓")
    assert {text.get_text() for text in rate.texts} == {"latent 1", "latent 2", "latent 4", "latent 8"}
    lacking = Row("x", "finished", {"noise.p": 1}, {}, kl)
    assert plot([*rows, lacking], ["model.latent_dim", "noise.p"], tmp_path / "b.png", "mse")
    bars = drawn[1].axes[0]
    assert len(bars.patches) == 5, "a run that lacks the latent dimension is drawn too"
    assert "-, 1" in [tick.get_text() for tick in bars.get_xticklabels()]
    assert not plot([Row("x", "failed", {})], [], tmp_path / "d.png", "mse")


def test_a_sweep_is_reported_beside_its_runs(ae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.copytree(ae_run, tmp_path / "0_a")
    shutil.copytree(ae_run, tmp_path / "1_b")
    (tmp_path / "1_b" / "summary.json").write_text("{")
    assert compare_table.report_sweep(tmp_path) == ["1_b"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert f"1 damaged: {tmp_path / '1_b'}: summary.json is damaged: not JSON" in out
    assert "1 of 2 runs finished; comparison.csv, comparison.png and comparison.html" in out


def test_groups_are_ranked_by_their_mean_and_not_by_their_best_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, (model, seed, mse) in enumerate((("ae", 0, 0.1), ("ae", 1, 0.9), ("vae", 0, 0.2), ("vae", 1, 0.3))):
        run = tmp_path / f"{i}_{model}"
        (run / ".hydra").mkdir(parents=True)
        (run / "run.json").write_text('{"state": "finished"}')
        (run / "summary.json").write_text(json.dumps({"val": {"mse": mse}, "test": {"mse": mse}}))
        (run / ".hydra" / "overrides.yaml").write_text(f"[model={model}, seed={seed}]")
    compare_table.report_sweep(tmp_path)
    out = capsys.readouterr().out
    assert out.index("│ 2,3 ") < out.index("│ 0,1 ")
    assert "best by validation mse, mean of 2 seeds, one of them: python train.py model=vae seed=0" in out


def test_runs_without_metrics_are_not_ranked() -> None:
    rows = [Row("0", "failed", {}, {}, {}, "out of memory"), Row("1", "not started", {}, {}, {})]
    remarks = compare_table.Comparison(rows, [], "mse", ()).remarks
    assert "0 failed: out of memory" in remarks
    assert not any("anked" in line or "lower is better" in line for line in remarks)


def test_zeros_are_shown_of_sparse_codes_alone_and_explained() -> None:
    dense, sparse = (
        [Row(name, "finished", {}, {"mse": 0.1}, {"mse": 0.1, "zeros": zeros}) for name in "ab"]
        for zeros in (1e-3, 0.9)
    )
    assert "zeros" not in compare_table.Comparison(dense, [], "mse", ()).shown
    assert "zeros" in compare_table.Comparison(dense, [], "mse", ["zeros"]).shown, "asked for"
    compared = compare_table.Comparison(sparse, [], "mse", ())
    assert "zeros" in compared.shown
    assert any(line.startswith("zeros: fraction of the code") for line in compared.remarks)


def test_the_error_of_pca_stands_beside_that_of_the_runs(ae_run: Path, vae_run: Path) -> None:
    rows = compare.read_runs([ae_run, vae_run])
    compared = compare_table.Comparison(rows, compare.differing(rows), "mse", ())
    assert compared.shown[:3] == ["mse", "mse_pca", "mse_mean"]
    assert any(line.startswith("mse_pca: ") for line in compared.remarks)
