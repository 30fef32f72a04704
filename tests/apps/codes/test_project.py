"""Projections: what the numbers mean, and what each method needs."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from autoenc import load_run
from autoenc.apps.codes import project
from autoenc.errors import UserError


def test_agreement_of_neighbours_counts_other_points_only() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], 30)
    apart = random.normal(size=(60, 2)) + 100 * y[:, None]
    assert project.agreement(apart, y) == 1.0
    assert project.agreement(random.normal(size=(60, 2)), y) == pytest.approx(0.5, abs=0.1)


def test_tsne_of_digits_keeps_neighbourhoods_and_pca_does_so_less(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    split = run.data.test.subset(slice(0, 250))
    tsne, again, pca = (project.project(run, split, method) for method in ("tsne", "tsne", "pca"))
    assert tsne.numbers["trustworthiness"] > 0.95 > pca.numbers["trustworthiness"]
    assert tsne.numbers["neighbour_agreement"] > 0.75
    assert np.array_equal(tsne.points, again.points)
    assert np.abs(pca.points) == pytest.approx(np.abs(PCA(2).fit_transform(run.codes(split))), abs=1e-3)
    assert project.figure(run.spec, split, tsne, "title").shape[2] == 3


def test_direct_is_the_code_itself_and_needs_its_size(ae_run: Path, train_run: Callable[..., Path]) -> None:
    run = load_run(ae_run, "cpu")
    with pytest.raises(UserError, match=r"--method direct: .* 8 values, not 2; use pca"):
        project.project(run, run.data.test, "direct")
    two = load_run(train_run("model=ae", "model.latent_dim=2", "trainer.epochs=1"), "cpu")
    found = project.project(two, two.data.test, "direct")
    assert np.array_equal(found.points, two.codes(two.data.test))
    assert found.numbers["trustworthiness"] == 1.0
    with pytest.raises(UserError, match=r"--dim 3: .*only 2 values"):
        project.project(two, two.data.test, "pca", dim=3)
    with pytest.raises(UserError, match="30 rows are too few"):
        project.project(two, two.data.test.subset(slice(0, 30)), "pca")


def test_umap_says_what_to_install_where_it_is_not_there(ae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    run = load_run(ae_run, "cpu")
    with pytest.raises(UserError, match="--method umap: needs umap-learn: pip install"):
        project.project(run, run.data.test, "umap")


def test_a_part_of_sorted_test_rows_has_every_class(
    train_run: Callable[..., Path], run_script: Callable[..., int], tmp_path: Path
) -> None:
    y = np.arange(400) // 100
    x = np.random.default_rng(0).normal(size=(400, 5)) + y[:, None]
    np.savez(tmp_path / "sorted.npz", x=x, y=y, x_test=x, y_test=y)
    run_dir = train_run("model=ae", "data=arrays", f"data.path={tmp_path / 'sorted.npz'}", "trainer.epochs=1")
    assert run_script("project", run_dir, "--method", "pca", "--count", 40, "--device", "cpu") == 0
    with (run_dir / "project" / "pca" / "points.csv").open() as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert len(labels) == 40
    assert set(labels) == {"0", "1", "2", "3"}
    file = ("--input", tmp_path / "sorted.npz", "--method", "pca", "--count", 50, "--device", "cpu")
    assert run_script("project", run_dir, *file) == 0
    with (run_dir / "project" / "pca_input" / "points.csv").open() as lines:
        assert len({row["name"] for row in csv.DictReader(lines)}) == 50
