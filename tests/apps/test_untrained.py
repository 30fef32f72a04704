"""The untrained network: the first weights of the run, without its files, and what is said of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import build, load_run
from autoenc.apps.anomaly.rows import detect
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.codes import features
from autoenc.apps.untrained import remark, untrained
from autoenc.reference import row_table
from autoenc.seeds import seeded


def test_weights_are_those_of_the_first_step_and_the_training_files_are_not_needed(
    vae_run: Path, copied: Callable[[Path], Path]
) -> None:
    run = load_run(vae_run, "cpu")
    with seeded(run.config["seed"]):
        parts = build.build(run.config, torch.device("cpu"), run.data)
    alone = load_run(copied(vae_run), "cpu")
    alone.config["data"] = {"_target_": "autoenc.data.sets.arrays.arrays", "path": "missing.npy"}
    state = torch.get_rng_state()
    initial = untrained(alone)
    assert torch.equal(state, torch.get_rng_state())
    first, trained = parts.model.state_dict(), run.model.state_dict()
    for name, value in initial.model.state_dict().items():
        assert torch.allclose(value, first[name], atol=1e-6), name
    assert any(not torch.equal(first[name], trained[name]) for name in first)
    rows = alone.reference.rows
    with torch.no_grad():
        expected = row_table(initial.model, run.spec.kind, rows.take(slice(0, 50))).numpy()
    assert initial.reference.train_table[:50] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_labels_of_the_stored_rows_stand_beside_their_codes(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(vae_run, "cpu")
    stored = replace(run.reference, rows=run.reference.rows.subset(slice(3, 60)), row_index=np.arange(3, 60))
    run.__dict__["reference"] = stored
    monkeypatch.setattr(type(run), "reference_rows", lambda self, most=None: stored.rows)
    found = untrained(run).reference
    assert len(found) == 57
    assert found.labels is not None
    assert stored.labels is not None
    np.testing.assert_array_equal(found.labels, stored.labels[3:60])
    np.testing.assert_array_equal(found.index, stored.index[3:60])
    assert found.labels.tolist() == stored.rows.y.tolist()  # type: ignore[union-attr]


def test_scores_and_probes_of_a_network_that_learned_nothing_are_said_to_be_no_better(vae_run: Path) -> None:
    run = load_run(vae_run, "cpu")
    run.model.load_state_dict(untrained(run).model.state_dict())
    run.reference = replace(run.reference, train_table=untrained(run).reference.train_table)
    y, y_test = (np.minimum(labels, 1) for labels in features.need_labels(run))
    rows = features.representations(run)
    numbers = features.probe({name: rows[name] for name in ("codes", "untrained")}, y, y_test)
    assert numbers["codes"] == numbers["untrained"]
    assert numbers["remark"].startswith("no better than an untrained network")
    assert numbers["remark"].endswith(": logistic, 5-nn, logistic_100")
    found = detect.detect(Detector(run), run.data.test, y_test == 0)
    assert found.numbers["knn"]["auroc"] == found.numbers["knn"]["auroc_untrained"]
    assert found.remark.endswith(": error, nll, elbo, prior, mahalanobis, knn, local, forest, combined")
    assert found.summary()["remark"] == found.remark


def test_the_remark_names_what_is_no_better_or_else_what_is_better() -> None:
    assert remark({}) == ""
    assert remark({"a": True, "b": True}).startswith("better than an untrained network")
    assert remark({"a": True, "b": True}).endswith(": a, b")
    assert remark({"a": True, "b": False}).startswith("no better than an untrained network")
    assert remark({"a": True, "b": False}).endswith(": b")
