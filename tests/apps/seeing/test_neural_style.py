"""Style transfer by optimisation: the equations of Gatys et al. 2016, losses of both images, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autoenc import load_run
from autoenc.apps.seeing import neural_style
from autoenc.apps.seeing.neural_style import Losses, Settings
from autoenc.loading import Run

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def conv_run(train_run: Callable[..., Path]) -> Path:
    small = ["network=conv", "network.channels=[4,8]", "network.hidden=null", "model.latent_dim=2"]
    return train_run("model=ae", *small, "trainer.steps=20", "trainer.device=cpu")


@pytest.fixture
def conv(conv_run: Path) -> Run:
    return load_run(conv_run, "cpu")


def test_losses_and_their_gradients_are_those_of_the_paper() -> None:
    features = torch.tensor([[[1.0, 2.0]], [[0.0, -1.0]]], dtype=torch.float64, requires_grad=True)  # N = 2 maps, M = 2
    target, wanted = torch.randn(2, 1, 2, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)
    np.testing.assert_allclose(neural_style.gram(features).detach(), [[5, -2], [-2, 1]])
    content = neural_style.content_distance(features, target)
    (slope,) = torch.autograd.grad(content, features)
    torch.testing.assert_close(slope, features - target)  # eq. 2
    style = neural_style.style_distance(features, wanted + wanted.T)
    difference = neural_style.gram(features) - wanted - wanted.T
    torch.testing.assert_close(style, difference.square().sum() / (4 * 2**2 * 2**2))  # eq. 4
    (slope,) = torch.autograd.grad(style, features)
    torch.testing.assert_close(slope, (difference @ features.flatten(1)).view(2, 1, 2) / (2**2 * 2**2))  # eq. 6


def test_roughness_does_not_see_contrast_and_brightness() -> None:
    x = torch.rand(1, 5, 6)
    torch.testing.assert_close(neural_style.roughness(0.1 * x + 0.5), neural_style.roughness(x))
    smooth = torch.linspace(0, 1, 6).expand(1, 5, 6)
    assert neural_style.roughness(smooth) < neural_style.roughness(x)


def test_losses_are_0_where_they_are_reached_and_1_for_the_other_image(conv: Run) -> None:
    content, style = conv.examples.take(torch.tensor([3, 5])).x
    losses = Losses(conv, content, style, Settings())
    assert [loss.item() for loss in losses(content)] == pytest.approx([0, 1])
    assert [loss.item() for loss in losses(style)] == pytest.approx([1, 0])


def test_an_optimized_image_is_nearer_to_the_style_and_stays_in_range(conv: Run) -> None:
    content, style = conv.examples.take(torch.tensor([3, 5])).x
    found = neural_style.stylized(conv, content, style, Settings(steps=30))
    assert found.x.shape == content.shape
    assert conv.spec.low <= found.x.min() < found.x.max() <= conv.spec.high
    assert found.content_loss + found.style_loss < 0.5
    more = neural_style.stylized(conv, content, style, Settings(steps=30, style_weight=30))
    assert more.style_loss < found.style_loss
    assert more.content_loss > found.content_loss
    same = neural_style.stylized(conv, content, content, Settings(steps=30, variation_weight=0))
    np.testing.assert_allclose(same.x, content, atol=1e-4)


def test_the_script_draws_each_content_in_each_style(conv_run: Path, call: Call, tmp_path: Path) -> None:
    image = Image.fromarray((np.random.default_rng(0).random((8, 8)) * 255).astype(np.uint8))
    image.save(tmp_path / "a.png")
    arguments = ("--content", "0", tmp_path / "a.png", "--style", "1", "--steps", "5", "--style-layers", "encoder.0")
    code, _, error = call("restyle", conv_run, *arguments, "--output", tmp_path / "out")
    assert code == 0, error
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"restyle.json", "restyle.png", "0.png", "1.png"}
    found = json.loads((tmp_path / "out" / "restyle.json").read_text())
    assert found["layers"] == ["encoder.5", ["encoder.0"]]
    assert found["numbers"]["content image"] == {"content_loss": 0, "style_loss": 1}
    assert found["numbers"]["result"]["style_loss"] < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--content", "0"], "--content and --style: give both"),
        (["--content", "0", "--style", "1", "--from-class", "1", "--to-class", "2"], "give one of them"),
        (["--content", "0", "--style", "1", "--strengths", "1"], "--strengths: is for --from-class, not for --content"),
        (["--style-weight", "1"], "--style-weight: is for --content"),
        (["--content", "0", "--style", "1", "--style-weight", "-1"], "--style-weight=-1.0: must be 0 or more"),
        (["--content", "0", "--style", "9999"], "9999: digits has the examples 0 to"),
        (["--content", "0", "--style", "1", "--content-layer", "code"], "--content-layer code: is no feature map"),
        (
            ["--content", "wide.png", "--style", "1"],
            "9x8 pixels, grey; the run was trained on 8x8 pixels, grey",
        ),
        (["--content", "0", "--style", "red.png"], "--style red.png: 8x8 pixels, colour"),
        (["--content", "0", "--style", "none.png"], "none.png: no such file"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, list) else "",
)
def test_what_cannot_be_restyled_is_refused_in_one_line(
    conv_run: Path, call: Call, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (9, 8)).save("wide.png")
    Image.new("RGB", (8, 8), "red").save("red.png")
    code, _, error = call("restyle", conv_run, *arguments, "--output", "out")
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not Path("out").exists()


def test_runs_without_convolution_are_refused_in_one_line(
    ae_run: Path, table_run: Path, call: Call, tmp_path: Path
) -> None:
    for run, noun in ((ae_run, "images"), (table_run, "vectors")):
        code, _, error = call("restyle", run, "--content", "0", "--style", "1", "--output", tmp_path / "out")
        assert (code, error.count("\n")) == (2, 1)
        assert f"is of {noun}, and its encoder has no feature maps" in error
        assert "network=conv" in error
