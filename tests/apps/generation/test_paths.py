"""Paths through the codes: their ends, the speed on the sphere, traversals and grids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from autoenc import load_run
from autoenc.apps.generation import generate, paths
from autoenc.errors import UserError
from autoenc.loading import Run


def test_on_the_sphere_the_direction_turns_at_a_constant_speed() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 6))
    found = paths.slerp(a, b, 9)
    np.testing.assert_allclose(found[[0, -1]], [a, b], atol=1e-12)
    lengths = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 9))
    directions = found / lengths[:, None]
    angle = np.arccos(directions[0] @ directions[-1])
    np.testing.assert_allclose(np.arccos((directions[1:] * directions[:-1]).sum(1)), angle / 8)
    assert np.linalg.matrix_rank(np.stack([a, b, *found]), tol=1e-9) == 2, "in the plane of both"


def test_of_equal_lengths_it_is_the_formula_of_the_paper() -> None:
    """sin((1 - t) w) / sin w a + sin(t w) / sin w b; a quarter of a circle is known without it."""
    found = paths.slerp(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 3)
    np.testing.assert_allclose(found, [[2, 0], [np.sqrt(2), np.sqrt(2)], [0, 2]], atol=1e-12)
    random = np.random.default_rng(1)
    a, b = (3 * v / np.linalg.norm(v) for v in random.normal(size=(2, 5)))
    w, t = np.arccos(a @ b / 9), np.linspace(0, 1, 7)[:, None]
    np.testing.assert_allclose(paths.slerp(a, b, 7), (np.sin((1 - t) * w) * a + np.sin(t * w) * b) / np.sin(w))


def test_equal_and_opposite_directions() -> None:
    a = np.array([1.0, 2.0, 2.0])
    np.testing.assert_allclose(paths.slerp(a, 3 * a, 3), [a, 2 * a, 3 * a])
    np.testing.assert_allclose(paths.slerp(a, a, 3), [a, a, a])
    with pytest.raises(UserError, match="--sphere: the codes have opposite directions"):
        paths.slerp(a, -2 * a, 3)
    with pytest.raises(UserError, match="--sphere: the code of an example is 0"):
        paths.slerp(a, 0 * a, 3)


def test_the_script_names_the_ends_and_the_figure(
    vae_run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said, error = call("generate", vae_run, "--interpolate", 3, 17, "--sphere", "--steps", 4, "--output", out)
    assert code == 0, error
    run = load_run(vae_run, "cpu")
    batch = run.data.test.take(slice(None))
    assert batch.y is not None
    classes = [run.spec.classes[batch.y[i]] for i in (3, 17)]
    words = " ".join(said.split())
    assert f"from example 3, class {classes[0]} to example 17, class {classes[1]}: " in words
    assert str(out / "interpolate.png") in said.replace("\n", "")
    with np.load(out / "interpolate.npz") as saved:
        np.testing.assert_allclose(saved["z"], paths.slerp(*run.encode(batch.x[[3, 17]].numpy()), 4), atol=1e-5)


def test_the_ends_of_a_path_are_the_reconstructions(ae: Run, table: Run) -> None:
    for run in (ae, table):
        x = run.data.test.take(slice(0, 2)).x.numpy()
        path = paths.interpolate(run, x[0], x[1], steps=5)
        np.testing.assert_allclose(path.x[[0, -1]], run.reconstruct(x), atol=1e-5)
        np.testing.assert_allclose(path.x[2], run.decode(run.encode(x).mean(0, keepdims=True))[0], atol=1e-5)


def test_a_traversal_moves_one_dimension_by_standard_deviations_of_the_training_codes(vae: Run) -> None:
    found = paths.traverse(vae, 4)
    x = vae.data.test.take(slice(4, 5)).x.numpy()
    std = vae.codes(vae.data.train).std(0)
    order = np.argsort(-std)
    assert found.x.shape == (8, 11, 1, 8, 8)
    np.testing.assert_allclose(found.x[:, 5], vae.reconstruct(x).repeat(8, 0), atol=1e-5)
    moved = found.z - vae.encode(x)[0]
    np.testing.assert_allclose(moved[0, :, order[0]], np.linspace(-3, 3, 11) * std[order[0]], atol=1e-5)
    assert np.abs(np.delete(moved[0], order[0], axis=1)).max() == 0
    assert found.labels[0].startswith(f"z[{order[0]}] ")


def test_a_sheet_is_of_quantiles_of_the_prior_and_for_two_dimensions_only(
    vae: Run, train_run: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=r"latent_dim=2; .* has 8"):
        paths.sheet(vae)
    for model in ("vae", "ae"):
        run = load_run(train_run(f"model={model}", "model.latent_dim=2", "trainer.epochs=1"), "cpu")
        found = paths.sheet(run, side=6)
        assert found.x.shape == (6, 6, 1, 8, 8)
        assert generate.figure(run, found, 6).shape[0] == 6 * 58 + 2 + 22, "a line for the title"
        levels = (np.arange(6) + 0.5) / 6
        codes = run.codes(run.data.train)
        expected = norm.ppf(levels) if model == "vae" else np.quantile(codes[:, 1], levels)
        np.testing.assert_allclose(found.z[::-1, 3, 1], expected, atol=1e-5)  # upwards
        np.testing.assert_allclose(found.x[2, 4], run.decode(found.z[2, 4:5])[0], atol=1e-6)
