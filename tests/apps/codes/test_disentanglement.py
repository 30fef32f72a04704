"""Scores of disentanglement: 1 for perfect codes, 0 or chance for useless ones, and what tells them apart."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import build
from autoenc.apps.codes import disentanglement
from autoenc.apps.codes.features import Representation
from autoenc.apps.protocol.evaluate import Subject, evaluate
from autoenc.estimators.inmemory import compose
from autoenc.loading import Run

SIZES = (3, 6, 16)


@pytest.fixture(scope="module")
def factors() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    train, test = (np.stack([random.integers(size, size=2_000) for size in SIZES], 1) for _ in range(2))
    return train, test


def scores(codes: tuple[np.ndarray, np.ndarray], factors: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    return disentanglement.scores(Representation(*codes), *factors)


def test_perfect_codes_score_one(factors: tuple[np.ndarray, np.ndarray]) -> None:
    """Each factor in a unit of its own, permuted, scaled, with its sign changed."""
    found = scores(tuple(rows[:, [2, 0, 1]] * [3.0, -0.1, 7.0] + 5 for rows in factors), factors)
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=0.03)
    assert found["factorvae_score"] == 1


def test_useless_codes_score_zero_or_chance(factors: tuple[np.ndarray, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    found = scores(tuple(random.normal(size=(2_000, 5)) for _ in range(2)), factors)
    assert 0 <= found["mig"] < 0.02
    assert 0 <= found["sap"] < 0.02
    assert found["factorvae_score"] == pytest.approx(1 / 3, abs=0.06)
    assert found["dci_disentanglement"] < 0.05
    assert found["dci_completeness"] < 0.05
    assert found["dci_informativeness"] == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.03)


def test_a_rotation_of_perfect_codes_is_informative_and_not_disentangled(
    factors: tuple[np.ndarray, np.ndarray],
) -> None:
    rotation = np.array([[2, 2, -1], [2, -1, 2], [-1, 2, 2]]) / 3
    found = scores(tuple((rows / np.array(SIZES)) @ rotation for rows in factors), factors)
    assert found["dci_informativeness"] > 0.6
    assert max(found["mig"], found["sap"]) < 0.5
    assert found["dci_disentanglement"] < 0.5


def test_a_factor_in_two_units_has_no_gap_but_disentangled_units(factors: tuple[np.ndarray, np.ndarray]) -> None:
    found = scores(tuple(np.concatenate([rows, rows[:, 1:2]], 1).astype(float) for rows in factors), factors)
    assert found["mig"] == pytest.approx(2 / 3, abs=0.03)
    assert found["sap"] == pytest.approx(2 / 3, abs=0.03)
    assert found["dci_disentanglement"] == pytest.approx(1, abs=0.01)


def test_two_factors_in_one_unit_are_known_by_hand() -> None:
    """One unit that is the sum 2 a + b of two bits: MIG has the whole information, DCI divides its importance."""
    bits = np.array([[a, b] for a in (0, 1) for b in (0, 1)] * 100)
    code = (2 * bits[:, :1] + bits[:, 1:]).astype(float)
    assert disentanglement.mig(code, bits) == pytest.approx(1)
    found = disentanglement.dci(Representation(code, code), bits, bits)
    assert found == pytest.approx({"dci_disentanglement": 0, "dci_completeness": 1, "dci_informativeness": 1}, abs=1e-6)


def test_codes_without_units_and_factors_that_do_not_vary(factors: tuple[np.ndarray, np.ndarray]) -> None:
    none = (np.zeros((2_000, 0)), np.zeros((2_000, 0)))
    assert set(scores(none, factors).values()) == {0.0}
    constant = tuple(np.concatenate([rows, np.zeros((2_000, 1), int)], 1) for rows in factors)
    assert scores(tuple(rows.astype(float) for rows in factors), constant)["mig"] == pytest.approx(1, abs=0.03)


def untrained(*overrides: str) -> Run:
    config = compose([*overrides, "network.hidden=[16]"])
    data = build.build_data(config)
    torch.manual_seed(0)
    return Run(Path("run"), build.build_model(config, data.spec), config, data.spec, {}, torch.device("cpu"), data)


SHAPES = ("data=shapes", "data.count=600", "data.size=16")


def test_the_section_has_the_untrained_network_and_pca_beside_the_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained("model=btcvae", *SHAPES)
    train, test = disentanglement.need_factors(run)
    rows = {"codes": Representation(train.astype(float), test.astype(float))}
    for name in ("untrained", "PCA-10", "raw"):
        rows[name] = Representation(*(np.random.default_rng(3).normal(size=(len(part), 4)) for part in (train, test)))
    monkeypatch.setattr(Subject, "representations", rows)
    monkeypatch.setattr(disentanglement, "TREES", 2)
    found = evaluate(run, ["disentanglement"])
    assert list(found["disentanglement"]) == ["codes", "untrained", "PCA-10"]
    assert found["disentanglement"]["codes"]["factorvae_score"] > 0.95
    assert found == evaluate(run, ["disentanglement"]), "draws have fixed seeds"


def test_inactive_units_of_a_posterior_are_left_out() -> None:
    run = untrained("model=vae", *SHAPES)
    train, test = (rows.astype(float) for rows in disentanglement.need_factors(run))
    tiny = {"codes": Representation(1e-3 * train, 1e-3 * test), "PCA-5": Representation(1e-3 * train, 1e-3 * test)}
    found = disentanglement.of_factors(run, tiny)
    assert set(found["codes"].values()) == {0.0}
    assert found["PCA-5"]["factorvae_score"] > 0.95


def test_data_without_factors_are_skipped() -> None:
    found = evaluate(untrained("model=ae"), ["disentanglement"])
    assert found["skipped"] == {"disentanglement": "digits has no known factors (data=shapes has them)"}
