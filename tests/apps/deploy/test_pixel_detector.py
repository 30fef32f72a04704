"""An exported detector of defects scores raw images of any size as the run does."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autoenc import load_run, run
from autoenc.apps.anomaly.pixels.way import Pixels
from autoenc.apps.anomaly.way import Options
from autoenc.apps.deploy import export_detector as exporting
from autoenc.apps.deploy.export import Unfaithful, on_cpu
from autoenc.apps.deploy.pixel_detector import PortablePixels
from autoenc.data.kinds import image as kinds
from autoenc.data.readers.images import ImageFormat
from autoenc.data.sets.defects import read_image
from autoenc.errors import UserError
from autoenc.estimators.inmemory import compose

pytestmark = pytest.mark.usefixtures("operators")

SERVE = Path(__file__).resolve().parents[3] / "docs" / "serve.py"
Call = Callable[..., tuple[int, str, str]]


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def trained(folder: Path, shape: tuple[int, ...], *overrides: str) -> Path:
    """Noisy stripes of several sizes; the defective ones have a flat square."""
    draw = np.random.default_rng(0)
    stripes = (120 + 40 * np.sin(np.arange(60) / 2)).reshape(60, *[1] * (len(shape) - 1))
    for i in range(8):
        image = (stripes + 8 * draw.normal(size=(44 + i, *shape)))[:, : 40 + 3 * i]
        save(folder / f"train/good/{i}.png", image)
    for i in range(3):
        image = stripes + 8 * draw.normal(size=(41 + i // 2, *shape))
        save(folder / f"test/good/{i}.png", image)
        image[10 + i : 22 + i, 20:32] = 40
        save(folder / f"test/flat/{i}.png", image)
    settings = ["model=ae", "model.latent_dim=4", "data=defects", f"data.path={folder}", "data.patches=20"]
    more = ["trainer.epochs=3", "trainer.figures=0"]
    run.train(compose([*settings, *more, *overrides]), folder / "run", {"model": "ae"})
    return folder / "run"


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory, without_figures: None) -> Path:
    network = ("network=mlp", "network.hidden=[16]")
    return trained(tmp_path_factory.mktemp("grey"), (60,), "data.size=16", "data.contrast=8", *network)


def portable(path: Path, **options: Any) -> PortablePixels:
    return PortablePixels(Pixels(on_cpu(load_run(path, "cpu")), Options(**options))).eval()


def compared(detector: PortablePixels, rows: list[exporting.RawRows]) -> exporting.Compared:
    @torch.no_grad()
    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in detector(*map(torch.from_numpy, arrays))]

    return exporting.compare(detector, rows, call, "detector.onnx")


@pytest.mark.parametrize(("channels", "contrast", "white"), [(1, 0, None), (1, 16, None), (3, 4, 200), (3, 0, 4095)])
def test_images_are_preprocessed_as_in_training(
    channels: int, contrast: float, white: float | None, tmp_path: Path
) -> None:
    kind = kinds.Image((channels, 16, 16), 0.0, 1.0, ImageFormat(channels, 16, 16, "exact", white=white), contrast)
    shape = (18, 70) if channels == 1 else (18, 70, 3)  # the window of 16 pixels reaches 64, beyond the image
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    save(tmp_path / "a.png", pixels)
    expected = torch.from_numpy(kind.prepared(read_image(tmp_path / "a.png", kind))).float() / 255
    found = kind.raw_whole()(torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1)[None]))
    assert torch.equal(found[0], expected)


def test_images_are_scored_and_decided_as_by_the_run(grey: Path) -> None:
    detector = portable(grey, score="shift", quantile=0.5)
    rows = exporting.raw_rows(detector)
    assert {len(group) for group in rows} == {2, 4}, "of one size"
    result = compared(detector, rows)
    assert result.decisions == 0
    assert {"ssim", "combined_map", "reconstruction"} < result.differences.keys()
    assert max(result.differences.values()) < 1e-4
    assert sum(group.expected["alarm"].sum() for group in rows) > 0


def test_images_of_several_colours_and_patches_of_odd_size(
    tmp_path_factory: pytest.TempPathFactory, without_figures: None
) -> None:
    network = ("network=conv", "network.channels=[4]", "network.norm=none")
    path = trained(tmp_path_factory.mktemp("colour"), (60, 3), "data.size=17", *network)
    detector = portable(path)
    assert max(compared(detector, exporting.raw_rows(detector)).differences.values()) < 1e-4


def other_floor(detector: PortablePixels) -> None:
    detector.raw.floor *= 1.2  # type: ignore[operator, assignment]


def no_contrast(detector: PortablePixels) -> None:
    detector.raw.around = None  # type: ignore[assignment]


def other_white(detector: PortablePixels) -> None:
    detector.raw.white = 250  # type: ignore[assignment]


def other_filters(detector: PortablePixels) -> None:
    detector.maps.distances.filters.kernels *= 1.01


def other_edge(detector: PortablePixels) -> None:
    detector.maps.edge[0] *= 1.01


@pytest.mark.parametrize("change", [other_floor, no_contrast, other_white, other_filters, other_edge])
def test_a_preprocessing_or_a_score_that_differs_is_refused(
    change: Callable[[PortablePixels], None], grey: Path
) -> None:
    detector = portable(grey)
    rows = exporting.raw_rows(detector)[:1]
    change(detector)
    with pytest.raises(Unfaithful, match=r"detector\.onnx: \w+ differs from the run by .* nothing was written"):
        compared(detector, rows)


def test_rounding_of_the_reconstruction_is_no_difference_of_the_scores(grey: Path) -> None:
    detector = portable(grey)
    (rows,) = exporting.raw_rows(detector)[:1]
    with torch.no_grad():
        found = detector(*map(torch.from_numpy, rows.given.arrays))
    found = dict(zip(detector.outputs, (tensor.numpy() for tensor in found), strict=True))
    moved = found | {"reconstruction": found["reconstruction"] + 1e-3}
    explained = detector.explained(moved, rows.given.arrays)
    assert np.abs(explained["ssim_map"] - found["ssim_map"]).max() > 1e-4
    assert "reconstruction" not in explained


def test_defects_are_exported_and_served_as_detected(
    grey: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_pt2(*_: object) -> bytes:
        raise UserError("detector.pt2 takes as long again")

    monkeypatch.setattr(exporting, "pt2_file", no_pt2)
    code, out, err = call("export", grey, "--detector", "--quantile", 0.5, "--output", tmp_path / "served")
    assert (code, err) == (0, "")
    assert "as long again" in out
    new = tmp_path / "new"
    draw = np.random.default_rng(1)
    for i, size in enumerate([(16, 16), (30, 64), (75, 33)]):  # none of them as in training
        save(new / f"{i}.png", draw.normal(120, 30 * i, size))
    code, _, err = call("detect", grey, "--input", new, "--quantile", 0.5, "--output", tmp_path / "detected")
    assert code == 0, err
    scored = pd.read_csv(tmp_path / "detected" / "detect.csv")
    served = runpy.run_path(str(SERVE))["main"]
    capsys.readouterr()
    served(tmp_path / "served", new)
    header, *rows = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert header == ["row", "score", "p_value", "alarm"]
    assert [row[0] for row in rows] == scored["image"].tolist()
    np.testing.assert_allclose([float(row[1]) for row in rows], scored["combined"], rtol=1e-4)
    np.testing.assert_allclose([float(row[2]) for row in rows], scored["p_value"], rtol=1e-3)
    assert [int(row[3]) for row in rows] == scored["defective"].tolist()
    info = json.loads((tmp_path / "served" / "detector.json").read_text())
    assert info["inputs"][0]["shape"] == ["N", 1, "H", "W"]
    assert info["outputs"]["shift_map"]["shape"] == ["N", "H", "W"]
    for name, image, why in (
        ("small.png", Image.new("L", (20, 15)), "small.png: has 20x15 pixels, expected 16 or more"),
        ("clear.png", Image.new("LA", (20, 20)), "clear.png: has mode LA"),
    ):
        image.save(tmp_path / name)
        with pytest.raises(ValueError, match=why):
            served(tmp_path / "served", tmp_path / name)


def test_options_that_have_no_effect_on_defects_are_refused(grey: Path, call: Call) -> None:
    for option, value in (("--score", "knn"), ("--calibrate", "normal.csv")):
        code, _, err = call("export", grey, "--detector", option, value)
        assert (code, err.count("\n")) == (2, 1)
        assert f"{option} {value}: " in err


def test_values_that_detection_refuses_are_refused_by_the_served_file(tmp_path: Path) -> None:
    (given,) = kinds.Image((1, 4, 4), 0.0, 1.0).raw().inputs
    info = {"name": "x", "dtype": "float32", "shape": ["N", *given.shape], "columns": [], "text": given.text}
    numbers, path = runpy.run_path(str(SERVE))["numbers"], tmp_path / "x.npy"
    for values in (np.full((2, 1, 4, 4), 16.0), np.full((2, 1, 4, 4), np.nan), np.full((2, 1, 4, 4), 3)):
        np.save(path, values)
        with pytest.raises(ValueError, match="expected 0 to 1"):
            numbers(path, info | {"range": given.range, "uint8_scale": given.uint8_scale})
    np.save(path, np.full((2, 4, 4), 51, np.uint8))
    found = numbers(path, info | {"range": given.range, "uint8_scale": given.uint8_scale})
    np.testing.assert_allclose(found, np.full((2, 1, 4, 4), 0.2), rtol=1e-6)
    unbounded = replace(given, range=None)
    assert kinds.Image((1, 4, 4), -3.0, 5.0).raw().inputs[0].range == unbounded.range
