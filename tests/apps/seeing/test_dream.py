"""Dreams: the ascent ascends, finds the filter of a linear unit, and keeps size, place and range of the pixels."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from autoenc import load_run
from autoenc import run as training
from autoenc.apps.seeing import dream, effects, layers
from autoenc.apps.seeing.dream import Settings, Space
from autoenc.data.kinds.counts import Counts
from autoenc.estimators import inmemory
from autoenc.loading import Run

Call = Callable[..., tuple[int, str, str]]
WIDE = Space(-9.0, 9.0, 0.0, 4.0)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape)


def test_the_dream_of_a_linear_unit_is_its_filter() -> None:
    filters = torch.randn(3, 1, 12, 12)
    for start in (noise(3, 1, 12, 12), 0.3 * torch.randn(1, 1, 12, 12).expand(3, -1, -1, -1)):
        settings = Settings(jitter=0, blur=0.0, octaves=2)
        x, trace = dream.ascend(lambda x: (x * filters).flatten(1).sum(1), start, WIDE, settings)
        assert min(correlation(*pair) for pair in zip(x, filters, strict=True)) > 0.999
        assert x.flatten(1).norm(dim=1).tolist() == pytest.approx([4.0] * 3, rel=1e-4)
        assert trace[-1] == pytest.approx(4 * filters.flatten(1).norm(dim=1).numpy(), rel=1e-3)
        steps = trace[: settings.steps].mean(1)
        assert (np.diff(steps) >= -1e-3 * steps.max()).all()


def test_a_unit_that_differs_between_shifts_is_excited_by_the_image_as_it_is() -> None:
    def value(x: Tensor) -> Tensor:  # of another sign for each shift, as units of strided convolutions may be
        return (x * (1 - 2 * (torch.arange(12) % 2))).flatten(1).sum(1)

    start = noise(1, 1, 12, 12)
    for seed in range(3):
        x, _ = dream.ascend(value, start, WIDE, Settings(octaves=1, jitter=2, blur=0.0, seed=seed))
        assert value(x) > 0.8 * 4 * 12, "of the product of the contrast and the norm of the filter"


@pytest.mark.parametrize("given", [False, True])
def test_dreams_raise_the_activation_of_a_deep_unit(vae_run: Path, given: bool) -> None:
    run = load_run(vae_run, "cpu")
    image = run.reference.rows.take(torch.tensor([0])).x[0] if given else None
    settings = Settings.usual(run.spec.shape, given)
    found = dream.dreams(run, "code", [0, 3, 5], settings, image)
    mean = found.trace.mean(1)
    smooth = np.convolve(mean, np.ones(5) / 5, "valid")
    assert (np.diff(smooth) > -0.005 * np.ptp(smooth)).all()
    assert (found.end > found.begin).all()
    assert not given or torch.equal(found.start, image)
    assert found.end == pytest.approx(run.encode(found.x)[[0, 1, 2], [0, 3, 5]], abs=1e-4)
    assert 0 <= float(found.x.min()) < float(found.x.max()) <= 1
    again = dream.dreams(run, "code", [5], settings, image)
    torch.testing.assert_close(again.x[0], found.x[2], atol=1e-3, rtol=0, msg="alone as among others")


def test_a_whole_layer_is_its_squared_norm(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    found = dream.dreams(run, "encoder.1", None, Settings(steps=20, jitter=0))
    hidden = layers.activations(run.model, run.inputs(found.x).take(slice(None)), ["encoder.1"])["encoder.1"]
    assert found.end == pytest.approx(hidden.detach().square().sum(1).numpy(), rel=1e-5)
    assert found.end > 4 * found.begin


def test_octaves_keep_the_size_and_end_with_all_resolutions() -> None:
    assert dream.resolutions((28, 28), 4, 1.4) == [(10, 10), (14, 14), (20, 20), (28, 28)]
    assert dream.resolutions((8, 9), 4, 1.4) == [(8, 9)]
    x = torch.randn(2, 3, 28, 21)
    fine, coarse = (dream.band(x, size) for size in ((28, 21), (14, 10)))
    assert torch.equal(fine, x)
    assert coarse.shape == x.shape
    assert float(coarse.std()) < 0.7 * float(x.std())
    torch.testing.assert_close(dream.band(torch.ones(1, 1, 28, 21), (14, 10)), torch.ones(1, 1, 28, 21))
    found, _ = dream.ascend(lambda x: x.flatten(1).sum(1), noise(2, 3, 28, 21), WIDE, Settings(steps=2, jitter=2))
    assert found.shape == x.shape


def test_the_gradient_returns_to_the_place_that_jitter_left() -> None:
    filters = torch.zeros(1, 1, 21, 21)
    filters[..., 7:10, 12:15] = 1  # around (8, 13)
    settings = Settings(steps=200, jitter=3, octaves=1, blur=0.0)
    x, _ = dream.ascend(lambda x: (x * filters).flatten(1).sum(1), noise(1, 1, 21, 21), WIDE, settings)
    weight = x[0, 0].clamp(min=0.1 * float(x.max())) - 0.1 * float(x.max())
    place = [float((weight.sum(1 - d) * torch.arange(21)).sum() / weight.sum()) for d in (0, 1)]
    assert place == pytest.approx([8, 13], abs=0.7)


def test_blur_smooths_and_keeps_the_sum() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[..., 4, 4] = 1
    blurred = dream.smoothed(x, 1.0)
    assert float(blurred.sum()) == pytest.approx(1)
    assert float(blurred.max()) == pytest.approx(1 / (2 * math.pi), rel=0.02)
    assert torch.equal(dream.smoothed(x, 0.0), x)


def test_the_script(call: Call, vae_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    path = copied(vae_run)
    code, out, err = call("dream", path, "--units", "0-1,5", "--steps", 4, "--examples", 2)
    assert (code, err) == (0, "")
    assert "unit_5" in out
    folder = path / "dream" / "unit_0,1,5"
    found = json.loads((folder / "dream.json").read_text())
    assert list(found["units"]) == ["0", "1", "5"]
    assert found["steps"] == 4
    run = load_run(path, "cpu")
    for number, unit in found["units"].items():
        assert unit["dream"] > unit["start"]
        assert unit["best_example"] == pytest.approx(run.reference.codes[:, int(number)].max(), abs=1e-5)
    pixels = np.asarray(Image.open(folder / "unit_5.png"))
    assert pixels.shape == (8, 8)
    assert run.encode((pixels / 255.0)[None, None].astype(np.float32))[0, 5] > found["units"]["5"]["start"]
    Image.fromarray(pixels).save(tmp_path / "x.png")
    options = ("--whole", "--layer", "encoder.2", "--steps", 2)
    assert call("dream", path, *options, "--image", tmp_path / "x.png")[0] == 0
    folder = path / "dream" / "encoder.2" / "whole"
    assert (folder / "encoder.2.png").exists()
    assert call("dream", path, *options, "--image", 3, "--force")[0] == 0
    assert json.loads((folder / "dream.json").read_text())["image"] == "3"
    assert [call("dream", path, "--unit", unit, "--steps", 1)[0] for unit in (2, 3, 2)] == [0, 0, 2]


def test_what_cannot_be_dreamt_is_one_line(call: Call, vae_run: Path, table_run: Path, tmp_path: Path) -> None:
    grey, colour = tmp_path / "grey.png", tmp_path / "colour.png"
    Image.new("L", (9, 8)).save(grey)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(colour)
    out = ("--output", tmp_path / "out")
    for run, args, message in (
        (vae_run, ("--unit", 8), "--unit 8: code has units 0 to 7"),
        (vae_run, ("--layer", "decoder"), "--layer decoder: the model has no such layer, but encoder.0 (64)"),
        (vae_run, ("--unit", "x"), "argument --unit/--units: invalid list of whole numbers value: 'x'"),
        (vae_run, ("--unit", "5-3"), "argument --unit/--units: 5-3 names no units"),
        (vae_run, ("--image", grey), "9x8 pixels, grey; the run was trained on 8x8 pixels, grey; --resize converts it"),
        (vae_run, ("--image", colour), "8x8 pixels, colour; the run was trained on 8x8 pixels, grey; --resize"),
        (vae_run, ("--image", 99_999), "99999: digits has the examples 0 to"),
        (vae_run, ("--image", tmp_path / "none.png"), "no such file"),
        (vae_run, ("--resize",), "--resize: scales the image that --image names"),
        (vae_run, ("--class", "3"), "takes no labels, as it is not conditional"),
        (table_run, ("--steps", 3), "--steps: only images are dreamt"),
        (table_run, ("--seed", 0), "--seed: only images are dreamt"),
        (table_run, ("--jitter", 0), "--jitter: only images are dreamt"),
        (table_run, ("--blur", 0), "--blur: only images are dreamt"),
    ):
        code, _, err = call("dream", run, *args, *out)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert call("dream", vae_run, "--unit", 1, "--steps", 2, "--image", grey, "--resize", *out)[0] == 0


def test_a_conditional_model_dreams_of_a_class(call: Call, train_run: Callable[..., Path], tmp_path: Path) -> None:
    run = train_run("model=cvae", "trainer.epochs=1")
    out = ("--output", tmp_path / "out", "--unit", 0, "--steps", 2)
    code, _, err = call("dream", run, *out)
    assert (code, err.count("\n")) == (2, 1)
    assert "the code depends on the class: --class 0|1|2" in err
    assert call("dream", run, *out, "--class", "3")[0] == 0


# Data with names


def test_effects_of_a_linear_unit_are_its_weights(call: Call, tmp_path: Path) -> None:
    shop, path = Path(__file__).resolve().parents[2] / "old_runs" / "shop.csv", tmp_path / "run"
    data = ("data=table", f"data.path={shop}", "data.label=state", "likelihood=table", "network=linear")
    options = ("model=ae", *data, "model.latent_dim=3", "trainer.epochs=1", "trainer.figures=0", "trainer.device=cpu")
    training.train(inmemory.compose(options), path, {})
    run = load_run(path, "cpu")
    (changes,) = effects.effects(run, "code", [1])
    assert [effect for _, effect in changes] == sorted((effect for _, effect in changes), reverse=True)
    weight, rows = run.model.bottleneck.linear.weight.detach()[1], torch.from_numpy(run.reference.rows.rows())
    named, cells = dict(changes), run.spec.kind.cells(np.eye(len(weight)))
    for column in run.spec.kind.columns:
        part = weight[column.start : column.stop]
        if column.kind == "category":
            mean = rows[:, column.start : column.stop].mean(0)
            for k in range(len(part)):
                value = cells[column.name][column.start + k]
                assert named[f"{column.name}={value}"] == pytest.approx(float(part[k] - part @ mean), abs=1e-5)
        elif f"{column.name} +1 std" in named:
            expected = float(part * rows[:, column.start].std())
            assert named[f"{column.name} +1 std"] == pytest.approx(expected, abs=1e-5)
    code, out, err = call("dream", path, "--units", "0,1")
    assert (code, err) == (0, "")
    assert f"unit 1 raised by {changes[0][0]}" in out
    written = [row for row in csv.DictReader((path / "dream" / "unit_0,1" / "dream.csv").open()) if row["unit"] == "1"]
    assert [row["change"] for row in written] == [name for name, _ in changes]
    assert "raised by" in (path / "dream" / "unit_0,1" / "dream.html").read_text()


def test_words_and_dimensions_are_named(table_run: Path) -> None:
    kind = Counts((3,), 0.0, 1.0, vocabulary=("a", "b"))
    assert kind.changes(torch.tensor([0.5, -3.0, 9.0]), torch.zeros(2, 3)) == [("a", 0.5), ("b", -3.0)]
    run: Run = load_run(table_run, "cpu")
    (changes,) = effects.effects(run, "code", None)
    assert sorted(name for name, _ in changes) == [f"x{i} +1 std" for i in range(8)]
    assert effects.text([("a", 2.0), ("b", -1.0)]) == "raised by a (+2)\nlowered by b (-1)"
