"""Recovery: closed forms of its numbers, and models that find what their data were made from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import build, load_run
from autoenc import run as training
from autoenc.apps.codes import recovery
from autoenc.apps.protocol import evaluate
from autoenc.estimators import inmemory
from autoenc.loading import Run

SPARSE = (
    *("data=sparse_codes", "data.features=32", "data.atoms=40", "data.active=2", "data.count=4000"),
    *("model.latent_dim=80", "trainer.epochs=20", "trainer.evaluate_every=20", "trainer.batch_size=64"),
)


def trained(folder: Path, *overrides: str) -> Run:
    training.train(inmemory.compose([*overrides, "trainer.figures=0"]), folder, {})
    return load_run(folder, "cpu")


def untrained(*overrides: str) -> Run:
    config = inmemory.compose(overrides)
    data = build.build_data(config)
    return Run(Path("run"), build.build_model(config, data.spec), config, data.spec, {}, torch.device("cpu"), data)


def test_mmcs_of_known_atoms() -> None:
    truth = np.eye(3)[:, :2]  # e1, e2
    atoms = np.array([[-2.0, 0.0], [0.0, 3.0], [0.0, 4.0]])  # -e1, and e2 at a cosine of 0.6; of any length
    found = recovery.matched(atoms, truth, signed=False)
    assert found == pytest.approx({"mmcs": 0.8, "recovered": 0.5, "mcc": 0.8})
    found = recovery.matched(atoms, truth, signed=True)
    assert found == pytest.approx({"mmcs": 0.3, "recovered": 0.0, "mcc": 0.0})
    dead = recovery.matched(np.zeros((3, 1)), truth, signed=True)
    assert dead == {"mmcs": 0, "recovered": 0, "mcc": 0}


def test_mcc_assigns_each_true_atom_once_and_mmcs_does_not() -> None:
    truth = np.eye(2)
    atoms = np.array([[1.0, 1.0], [0.0, 1.0]])  # e1, and the diagonal
    found = recovery.matched(atoms, truth, signed=True)
    assert found["mcc"] == pytest.approx((1 + np.sqrt(0.5)) / 2)
    twice = recovery.matched(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.1]]), truth, signed=True)
    assert twice["mcc"] == pytest.approx((1 + 0.1 / np.hypot(1, 0.1)) / 2), "copies of an atom count once"


def test_f1_of_known_activity() -> None:
    true = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=bool)
    cosine = np.eye(2)
    assert recovery.activity_f1(true, true, cosine) == 1
    assert recovery.activity_f1(true[:, ::-1], true, cosine[:, ::-1]) == 1, "the nearest atom, whatever its position"
    assert recovery.activity_f1(~true, true, cosine) == 0
    assert recovery.activity_f1(np.zeros_like(true), true, cosine) == 0, "dead units"
    # always active: precision 2/4 and 1/4, recall 1
    always = recovery.activity_f1(np.ones_like(true), true, cosine)
    assert always == pytest.approx((2 * 0.5 / 1.5 + 2 * 0.25 / 1.25) / 2)


def test_the_true_dictionary_is_perfect_and_a_random_one_useless() -> None:
    overrides = (
        "model=topk",
        "model.bottleneck.k=2",
        *SPARSE,
        "data.features=80",
        "data.noise=0.0",
        "model.latent_dim=40",
    )
    run = untrained(*overrides)
    atoms = run.data.truth["dictionary"]
    rows = recovery.of_dictionary(run)["decoder"]
    assert rows["f1"] < 0.5
    assert rows["mcc"] < 0.5
    run.model.decoder[0].weight = torch.nn.Parameter(atoms)
    run.model.bottleneck.linear.weight = torch.nn.Parameter(torch.linalg.pinv(atoms))
    run.model.bottleneck.linear.bias.data.zero_()
    run.model.decoder[0].bias.data.zero_()
    rows = recovery.of_dictionary(run)["decoder"]
    perfect = {"mmcs": 1, "recovered": 1, "mcc": 1, "f1": 1, "explained_variance": 1, "l0": 2}
    assert rows == pytest.approx(perfect, abs=1e-4)


def test_the_largest_angle_of_known_subspaces() -> None:
    plane, tilted = np.eye(4)[:, :2], np.eye(4)[:, :2].copy()
    tilted[:, 1] = [0, np.cos(0.3), np.sin(0.3), 0]
    mixed = tilted @ np.array([[2.0, 1.0], [0.5, -3.0]])  # another basis of the same span
    assert recovery.largest_angle(mixed, plane) == pytest.approx(np.degrees(0.3))
    assert recovery.largest_angle(plane[:, :1], plane) == pytest.approx(0, abs=1e-9)  # contained
    assert recovery.largest_angle(np.eye(4)[:, 2:], plane) == pytest.approx(90)


def test_a_linear_autoencoder_finds_the_subspace_as_pca_does(tmp_path: Path) -> None:
    run = trained(
        tmp_path / "run", "model=linear", "data=linear_gaussian", "data.count=4000", "trainer.evaluate_every=10"
    )
    found = evaluate.evaluate(run, ["recovery"])
    assert found["skipped"] == {}
    rows = found["recovery"]
    assert list(rows) == ["decoder", "PCA-8", "truth", "random subspace"]
    assert rows["decoder"]["angle_deg"] < 5
    assert rows["decoder"]["mse_to_pca"] == pytest.approx(1, abs=0.01)
    assert rows["PCA-8"]["mse_to_pca"] == 1
    assert rows["truth"]["angle_deg"] == pytest.approx(0, abs=1e-6)
    # What the projection leaves is noise in 32 - 8 of 32 dimensions.
    assert rows["truth"]["mse"] == pytest.approx(0.25 * 24 / 32, rel=0.03)
    assert rows["truth"]["mse"] < rows["PCA-8"]["mse"]
    assert rows["random subspace"]["angle_deg"] > 60
    assert rows["random subspace"]["mse_to_pca"] > 3


@pytest.mark.parametrize("model", [("model=topk", "model.bottleneck.k=4"), ("model=sparse",)], ids=lambda m: m[0])
def test_sparse_models_find_the_dictionary(tmp_path: Path, model: tuple[str, ...]) -> None:
    run = trained(tmp_path / "run", *model, *SPARSE)
    rows = evaluate.evaluate(run, ["recovery"])["recovery"]
    assert rows["cosine"] == "signed"
    assert rows["decoder"]["mmcs"] > 0.95
    assert rows["decoder"]["recovered"] > 0.85
    truth, model = run.data.truth["dictionary"].shape[1], run.latent_dim
    learnt = [rows[f"dictionary learning, {count} atoms"]["mmcs"] for count in (truth, model)]
    assert min(learnt) > 0.85
    assert rows["random atoms"]["mmcs"] < 0.5


def test_an_atom_of_the_wrong_sign_counts_only_where_signs_are_a_convention() -> None:
    run = untrained("model=linear", *SPARSE)
    layer = run.model.decoder[0]
    layer.weight = torch.nn.Parameter(-run.data.truth["dictionary"].repeat(1, 2))
    rows = recovery.of_dictionary(run)  # codes of a linear model have both signs
    assert rows["cosine"] == "absolute"
    assert [rows["decoder"][name] for name in ("mmcs", "recovered", "mcc")] == pytest.approx([1, 1, 1])
    run.codes = lambda split: np.ones((len(split), 80))  # type: ignore[method-assign]
    rows = recovery.of_dictionary(run)
    assert rows["cosine"] == "signed"
    assert rows["decoder"]["recovered"] == 0


def test_what_has_no_known_atoms_is_left_out_with_the_reason() -> None:
    deep, images = (untrained("model=ae", f"data={name}", "data.count=200") for name in ("sparse_codes", "shapes"))
    skipped = evaluate.evaluate(deep, ["recovery"])["skipped"]
    assert skipped == {"recovery": "needs a linear decoder (network=linear or network=dictionary)"}
    skipped = evaluate.evaluate(images, ["recovery"])["skipped"]
    assert skipped == {"recovery": "shapes has no known dictionary or subspace"}
