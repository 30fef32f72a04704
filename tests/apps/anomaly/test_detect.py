"""Scores against their formulas and scikit-learn's own values, thresholds, and what the script writes and refuses."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from autoenc import load_run
from autoenc.apps import inputs
from autoenc.apps.anomaly import labelled, scores
from autoenc.apps.anomaly.conformal import Quantile
from autoenc.apps.anomaly.rows import baselines, detect, figures
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.codes import clustering, features
from autoenc.apps.deploy.scoring import Rarity
from autoenc.data.split import Split
from autoenc.errors import DataError, UserError
from autoenc.reference import drawn

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def one_out(train_run: Callable[..., Path]) -> Path:
    """Digits without the 6."""
    return train_run("model=ae", "model.latent_dim=16", "trainer.epochs=30", "anomaly_classes=[6]")


@pytest.fixture(scope="module")
def vae(vae_run: Path) -> Detector:
    return Detector(load_run(vae_run, "cpu"))


@pytest.fixture(scope="module")
def novel(one_out: Path) -> Detector:
    return Detector(load_run(one_out, "cpu"))


def everything(split: Split) -> np.ndarray:
    return split.take(slice(None)).x.numpy()


Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(call: Script) -> Script:
    """scripts/detect.py: exit code, stdout, stderr."""
    return lambda *args: call("detect", *args)


def test_distances_of_codes_are_the_formulas(novel: Detector) -> None:
    run = novel.run
    found = novel.scores(run.data.test)
    z, train = (run.codes(split).astype(float) for split in (run.data.test, run.data.train))
    precision = np.linalg.inv(ledoit_wolf(train)[0])
    away = z - train.mean(0)
    assert found["mahalanobis"] == pytest.approx(np.sqrt(np.einsum("ni,ij,nj->n", away, precision, away)), rel=1e-6)

    def knn(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = distances.argsort(1)[:, :10]
        return np.take_along_axis(distances, nearest, 1).mean(1), nearest

    among = cdist(train, train)
    np.fill_diagonal(among, np.inf)
    spacing, _ = knn(among)
    mean, nearest = knn(cdist(z, train))
    assert found["knn"] == pytest.approx(mean, rel=1e-5)
    assert found["local"] == pytest.approx(mean / spacing[nearest].mean(1), rel=1e-4)


def test_the_forest_sees_code_and_error_and_combined_is_fisher_s_sum(novel: Detector) -> None:
    run = novel.run
    found, reference = novel.scores(run.data.test), novel.scores(run.data.train)

    def seen(split: Split, error: np.ndarray) -> np.ndarray:
        return np.column_stack([run.codes(split).astype(float), np.log(error)])

    forest = IsolationForest(random_state=0).fit(seen(run.data.train, reference["error"]))
    expected = -forest.score_samples(seen(run.data.test, found["error"]))
    assert found["forest"] == pytest.approx(expected, abs=1e-3)
    among = cdist(run.codes(run.data.train), run.codes(run.data.train)).astype(float)
    np.fill_diagonal(among, np.inf)
    reference["knn"] = np.sort(among, 1)[:, :10].mean(1)  # none is its own neighbour
    parts = [scores.rarity(reference[name], found[name]) for name in ("error", "knn", "forest")]
    assert found["combined"] == pytest.approx(np.sum(parts, 0), abs=0.05)


def test_error_and_nll_are_those_of_the_deterministic_code(vae: Detector) -> None:
    run = vae.run
    x = run.data.test.take(slice(None)).x
    found = vae.scores(run.data.test)
    assert found["error"] == pytest.approx((x - run.reconstruct(x)).square().flatten(1).mean(1).numpy(), rel=1e-5)
    with torch.no_grad():
        params = run.model.decode(torch.from_numpy(run.codes(run.data.test)))
        nll = run.model.likelihood.nll(params, x).numpy()
    assert found["nll"] == pytest.approx(nll, rel=1e-4, abs=1e-3)


def test_the_bound_is_the_mean_over_many_draws(vae: Detector) -> None:
    """Against 2,000 independent ones: off by a part of the standard deviation of one of them."""
    run = vae.run
    batch = run.data.test.take(slice(0, 20))
    with torch.no_grad():
        code = run.model.encode(batch)
        assert code.posterior is not None
        mu, std = code.posterior.mean, code.posterior.stddev
        kl = (0.5 * (mu.square() + std.square() - 1) - std.log()).sum(1)
        samples = torch.stack([run.model.nll(mu + std * torch.randn_like(mu), batch) for _ in range(2000)]) + kl
    off = vae.scores(run.data.test.subset(slice(0, 20)))["elbo"] - samples.mean(0).numpy()
    assert np.abs(off / samples.std(0).numpy()).max() < 0.75
    assert abs(off.mean() / samples.std(0).numpy().mean()) < 0.25


def test_a_row_has_the_same_scores_in_any_company(vae: Detector) -> None:
    test = vae.run.data.test.subset(slice(0, 50))
    before = vae.scores(test)
    state = torch.get_rng_state()
    for name, values in vae.scores(test).items():
        assert np.array_equal(values, before[name]), name
    assert torch.equal(state, torch.get_rng_state())
    turned = vae.scores(test.subset(torch.arange(49, -1, -1)))
    alone = vae.scores(test.subset(slice(7, 8)))
    vae.run.batch_size, whole = 9, vae.run.batch_size
    small = vae.scores(test)
    vae.run.batch_size = whole
    for name, values in before.items():
        assert turned[name][::-1] == pytest.approx(values, rel=1e-4, abs=1e-4), name
        assert small[name] == pytest.approx(values, rel=1e-4, abs=1e-4), name
        assert alone[name] == pytest.approx(values[7:8], rel=1e-4, abs=1e-4), name


def test_the_threshold_is_the_smallest_score_that_the_quantile_does_not_exceed(novel: Detector) -> None:
    for name in novel.names:
        values = novel.validation[name]
        for quantile in (0.5, 0.9, 0.99):
            limit = novel.threshold(name, quantile)
            assert limit in values
            assert (values <= limit).mean() >= quantile > (values < limit).mean()
    assert detect.detect(novel, novel.run.data.val, rule=Quantile(0.9)).alarms.mean() <= 0.1
    with pytest.raises(UserError, match="--quantile=1"):
        novel.threshold("error", 1)


def test_ecod_by_hand_and_neighbours_of_rows_by_all_distances(novel: Detector) -> None:
    """Of 1, 2, 3 and the row itself: 3 of 4 are as high as 1.5, 1 as 9; 3 are as low as 2, a training row."""
    found = baselines.ecod(np.array([[1.0], [2.0], [3.0]]), np.array([[1.5], [9.0], [2.0]]))
    assert found == pytest.approx([math.log(4 / 2), math.log(4 / 1), math.log(4 / 3)])
    constant = np.zeros((5, 2))
    assert baselines.ecod(constant, constant) == pytest.approx(0)
    train, x = (everything(split).reshape(len(split), -1) for split in (novel.run.data.train, novel.run.data.test))
    nearest = np.sort(cdist(x, train), 1)[:, :10].mean(1)
    assert baselines.baselines(novel.run, novel.run.data.test)["raw_knn"] == pytest.approx(nearest, rel=1e-4)


def test_ecod_is_that_of_its_authors() -> None:
    ecod = pytest.importorskip("pyod.models.ecod").ECOD
    random = np.random.default_rng(0)
    train, x = random.exponential(size=(60, 4)), random.exponential(2, size=(5, 4))
    alone = [ecod().fit(train).decision_function(row[None])[0] for row in x]  # of several, each would see the others
    assert baselines.ecod(train, x) == pytest.approx(alone)


def test_a_class_left_out_of_training_is_found_better_than_by_pca_and_an_isolation_forest(novel: Detector) -> None:
    labels = labelled.known_anomalies(novel.run)
    assert labels is not None
    assert novel.run.data.train.y is not None
    assert 6 not in novel.run.data.train.y
    result = detect.detect(novel, novel.run.data.test, labels)
    auroc = {name: numbers["auroc"] for name, numbers in result.numbers.items()}
    assert auroc["local"] > 0.97
    assert auroc["local"] > max(auroc["pca"], auroc["isolation_forest"])
    for name, values in (result.scores | result.baselines).items():
        assert auroc[name] == roc_auc_score(labels, values)
        assert result.numbers[name]["average_precision"] == average_precision_score(labels, values)
    summary = result.summary()
    assert (summary["rows"], summary["anomalies"]) == (360, int(labels.sum()))
    assert summary["anomalies_above_threshold"] == int((labels & result.alarms).sum())


def test_auroc_counts_pairs() -> None:
    """1 of 4 pairs is wrong, and one is a tie."""
    assert labelled.quality(np.array([True, False, True, False]), np.array([3.0, 1, 2, 2]))["auroc"] == 0.875


def test_pca_has_as_many_components_as_the_code_has_numbers(novel: Detector, dae_run: Path) -> None:
    run = novel.run
    train, x = (everything(split).reshape(len(split), -1) for split in (run.data.train, run.data.test))
    pca = PCA(16, svd_solver="full").fit(train)
    expected = np.square(x - pca.inverse_transform(pca.transform(x))).mean(1)
    assert detect.baselines(run, run.data.test)["pca"] == pytest.approx(expected, rel=1e-3)
    wide = load_run(dae_run, "cpu")
    assert len(wide.reference) > 100
    wide.model.bottleneck.latent_shape = (100,)  # more than there are pixels
    train, x = (everything(split).reshape(len(split), -1) for split in (wide.data.train, wide.data.val))
    pca = PCA(0.95, svd_solver="full").fit(train)
    expected = np.square(x - pca.inverse_transform(pca.transform(x))).mean(1)
    assert detect.baselines(wide, wide.data.val)["pca"] == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_what_is_learned_from_labels_is_measured_on_their_classes(novel: Detector) -> None:
    run = novel.run
    y, y_test = features.known_labels(run)
    left_out = run.spec.classes.index(run.spec.anomalies[0])
    assert left_out not in y
    assert set(y_test.tolist()) == set(range(10)) - {left_out}
    assert len(y_test) == int((run.data.test.y != left_out).sum()) < len(run.data.test)
    rows = features.representations(run)["raw"].test
    assert np.array_equal(rows, everything(run.known_test()).reshape(len(y_test), -1))
    numbers = clustering.cluster(run, {"codes": features.Representation(np.eye(10)[y], np.eye(10)[y_test])}, y, y_test)
    assert numbers["codes"]["cluster_accuracy"] == 1, "nine clusters of nine classes"


def test_no_training_row_is_its_own_neighbour(novel: Detector) -> None:
    codes = novel.table[:, 2:]
    distances = np.linalg.norm(codes[:, None] - codes[None, :], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :10]
    knn = np.take_along_axis(distances, nearest, 1).mean(1)
    assert novel.training_scores["knn"] == pytest.approx(knn)
    assert novel.training_scores["local"] == pytest.approx(knn / novel.spacing[nearest].mean(1), rel=1e-5)


def test_exact_copies_in_the_training_rows_leave_scores_finite(novel: Detector) -> None:
    copies = Detector(novel.run)
    copies.__dict__["table"] = np.repeat(copies.table[:30], 20, axis=0)
    found = copies.scores(copies.run.data.test)
    assert all(np.isfinite(values).all() for values in found.values())


def test_reference_rows_are_a_fixed_part_of_many() -> None:
    assert np.array_equal(drawn(50), np.arange(50))
    rows = drawn(50_000)
    assert len(np.unique(rows)) == 20_000
    assert rows.max() > 45_000
    assert np.array_equal(rows, drawn(50_000))


def test_contributions_are_the_columns_that_were_changed(table_run: Path) -> None:
    run = load_run(table_run, "cpu")
    x = everything(run.data.test)[:40]
    x[:, 5] += 20  # off the subspace: the columns with the largest error are those of the difference
    split = Split(torch.from_numpy(x))
    difference = np.square(x - run.reconstruct(x))
    found = detect.contributions(run, split)
    assert found.shape == (40, 3)
    assert np.array_equal(found[:, 0], difference.argmax(1))
    assert (np.diff(np.take_along_axis(difference, found, 1), axis=1) <= 0).all()


def test_the_heat_map_is_brightest_where_a_pixel_was_changed(novel: Detector) -> None:
    x = np.repeat(everything(novel.run.data.test)[:1], 12, axis=0)
    x[:, 0, 7, 0] = 1  # a corner that is always black
    image = figures.heatmap(novel.run, Split(torch.from_numpy(x)), np.arange(12))
    assert image.shape[2] == 3
    bottom = (
        image[-74:-18, -12 * 58 : -12 * 58 + 56].astype(int).sum(-1)
    )  # the first tile of the last row, 7 pixels for each pixel
    row, column = np.unravel_index(bottom.argmax(), bottom.shape)
    assert (row // 7, column // 7) == (7, 0)


def test_what_is_read_is_not_written_over(script: Script, table_run: Path, tmp_path: Path) -> None:
    rows = load_run(table_run).data.test.rows()[:5]
    np.savetxt(tmp_path / "new.csv", rows, delimiter=",")
    before = (tmp_path / "new.csv").read_bytes()
    code, _, err = script(table_run, "--input", tmp_path / "new.csv", "--output", tmp_path / "new.csv", "--force")
    assert code == 2
    assert err.startswith(f"--output {tmp_path / 'new.csv'}: ")
    assert (tmp_path / "new.csv").read_bytes() == before


def test_scores_that_are_the_same_for_all_rows_are_named(vae: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    found = vae.scores(vae.run.data.test)
    equal = found | {"knn": np.full(360, 0.3) + 1e-10 * np.arange(360)}
    monkeypatch.setattr(Detector, "scores", lambda self, split: equal)
    result = detect.detect(vae, vae.run.data.test)
    assert result.remark == result.summary()["remark"] == "the same for all rows, and therefore no ranking: knn"
    assert detect.constant(found) == "" == detect.constant({"knn": np.ones(1)})


def test_refusals(
    vae: Detector, novel: Detector, vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vae.names == list(scores.NAMES)
    with pytest.raises(UserError, match=r"--score elbo: .*has error, nll, mahalanobis, knn, local, forest, combined$"):
        novel.check("elbo")
    with pytest.raises(UserError, match=r"--score eror: .*has error, nll"):
        detect.detect(vae, vae.run.data.test, score="eror")
    with pytest.raises(DataError, match="--anomaly=ten: digits has no such class; it has 0, 1"):
        labelled.known_anomalies(vae.run, ["ten"])
    assert labelled.known_anomalies(vae.run) is None
    with pytest.raises(UserError, match="all 360 rows are normal; AUROC needs"):
        detect.detect(vae, vae.run.data.test, np.zeros(360, bool))
    for labels, remark in ((np.zeros(3), "no row is an anomaly"), (np.ones(3), "all 3 rows are anomalies")):
        assert labelled.of_both_kinds(labels, "y.csv") is None
        assert f"y.csv: {remark}: scores without AUROC" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"was trained on 2 too.*anomaly_classes=\[2\]"):
        assert labelled.known_anomalies(vae.run, ["2"]) is not None


def test_anomalies_that_deep_sad_is_trained_with_are_those_of_detection(
    train_run: Callable[..., Path], recwarn: pytest.WarningsRecorder
) -> None:
    path = train_run("model=deep_sad", "model.objective.anomalies=[3]", "network.hidden=[16]", "trainer.epochs=1")
    loaded = load_run(path, "cpu")
    assert loaded.data.test.y is not None
    found = labelled.known_anomalies(loaded)
    assert found is not None
    assert (found == (loaded.data.test.y == 3).numpy()).all(), "the classes that it was trained with need no --anomaly"
    assert not [str(w.message) for w in recwarn if "was trained on" in str(w.message)]


def test_the_script_on_the_test_split(
    one_out: Path, copied: Callable[[Path], Path], novel: Detector, script: Script
) -> None:
    run = copied(one_out)
    code, said, error = script(run, "--quantile", 0.9)
    assert code == 0, error
    assert "isolation_forest" in said
    assert {p.name for p in (run / "detect").iterdir()} == {"detect.json", "detect.csv", "roc.png", "heatmap.png"}
    rows = list(csv.DictReader((run / "detect" / "detect.csv").open()))
    assert list(rows[0]) == [
        "name",
        "error",
        "nll",
        "mahalanobis",
        "knn",
        "local",
        "forest",
        "combined",
        "p_value",
        "anomaly",
        "label",
    ]
    expected = novel.scores(novel.run.data.test)
    for name, values in expected.items():
        assert [float(row[name]) for row in rows] == pytest.approx(values, rel=1e-4, abs=1e-4)
    summary = json.loads((run / "detect" / "detect.json").read_text())
    above = expected["local"] > novel.threshold("local", 0.9)
    assert summary["above_threshold"] == above.sum() == sum(int(row["anomaly"]) for row in rows)
    assert f"{above.sum()} of 360 rows above the threshold: local > " in said
    code, _, error = script(run)
    assert code == 2
    assert error.startswith(f"{run / 'detect' / 'detect.json'}: already exists; --force")


def test_the_script_on_a_file_of_rows(table_run: Path, tmp_path: Path, script: Script) -> None:
    run = load_run(table_run, "cpu")
    x = everything(run.data.test)
    x[:10, 2] += 8
    truth = np.arange(len(x)) < 10
    np.savetxt(tmp_path / "new.csv", x, delimiter=",")
    np.savetxt(tmp_path / "truth.csv", truth, header="y", comments="")
    where = tmp_path / "scores.csv"
    file = [table_run, "--input", tmp_path / "new.csv", "--output", where, "--score", "error"]
    code, said, error = script(*file, "--labels", tmp_path / "truth.csv")
    assert code == 0, error
    mse = np.square(x - run.reconstruct(x)).mean(1)
    assert said.splitlines()[-2].startswith(f"highest: {mse.argmax() + 1} (")
    rows = list(csv.DictReader(where.open()))
    assert [row["name"] for row in rows] == [str(i) for i in range(1, len(x) + 1)]
    assert [row["label"] for row in rows] == [str(int(v)) for v in truth]
    assert [float(row["error"]) for row in rows] == pytest.approx(mse, rel=1e-4)
    assert all(len(row["columns"].split()) == 3 for row in rows)
    assert all(row["anomaly"] == "1" for row in rows[:10])
    made = json.loads((tmp_path / "scores.json").read_text())
    assert made["numbers"]["error"]["auroc"] == roc_auc_score(truth, mse) > 0.95
    assert (tmp_path / "scores_roc.png").exists()
    before = where.read_bytes()
    code, _, error = script(*file)
    assert (code, error.startswith(f"{where}: already exists; --force")) == (2, True)
    assert where.read_bytes() == before
    assert script(*file, "--force")[0] == 0
    assert b"label" not in where.read_bytes()


def test_the_script_on_a_file_without_output_writes_nothing(
    one_out: Path, copied: Callable[[Path], Path], tmp_path: Path, script: Script
) -> None:
    run, x = copied(one_out), everything(load_run(one_out, "cpu").data.test)[:20]
    np.savez(tmp_path / "new.npz", x=x, y=np.arange(20) % 2)
    there = sorted(tmp_path.rglob("*"))
    code, said, error = script(run, "--input", tmp_path / "new.npz", "--labels", tmp_path / "new.npz")
    assert code == 0, error
    assert "auroc" in said
    assert "of 20 rows above the threshold" in said
    assert sorted(tmp_path.rglob("*")) == there


def test_the_script_prints_the_mean_over_runs(
    one_out: Path, copied: Callable[[Path], Path], tmp_path: Path, script: Script
) -> None:
    code, said, error = script(one_out, copied(one_out), "--output", tmp_path / "both")
    assert code == 0, error
    mean = json.loads((tmp_path / "both" / "detect.json").read_text())["mean"]
    rows = list(csv.DictReader((tmp_path / "both" / "detect.csv").open()))
    assert [row["anomalies"] for row in rows] == ["6", "6"]
    assert mean["local"]["auroc"] == pytest.approx(np.mean([float(row["local"]) for row in rows]))
    assert f"{mean['local']['auroc']:.4g}" in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--labels", "y.npy"], "--labels needs --input"),
        (["--input", "x.npy", "--anomaly", "3"], "--anomaly is for the test split"),
        (["--input", "x.npy"], "x.npy: no such file"),
        (["--input", "x.npy", "--output", "scores"], "--output scores: with --input, name a .csv file"),
        (["--score", "elbo"], "--score elbo: elbo is for codes with a posterior"),
        (["--quantile", "1.5"], "--quantile: 1.5 does not lie between 0 and 1"),
    ],
)
def test_the_script_refuses_in_one_line(one_out: Path, script: Script, args: list[str], message: str) -> None:
    code, _, error = script(one_out, *args)
    assert (code, len(error.splitlines())) == (2, 1)
    assert message in error


def test_the_score_that_decides_depends_on_the_kind_of_data(one_out: Path, table_run: Path) -> None:
    assert scores.Detector(load_run(one_out)).best == "local"
    assert scores.Detector(load_run(table_run)).best == "combined"


def test_rarity_is_minus_the_log_of_the_part_that_is_as_large() -> None:
    reference = np.array([1.0, 2.0, 3.0])
    found = scores.rarity(reference, np.array([0.5, 1.0, 2.5, 3.0, 6.0]))
    assert found == pytest.approx([0, 0, -math.log(2 / 4), -math.log(2 / 4), -math.log(1 / 4) + math.log(2)])


def test_rarity_preserves_the_order_of_scores_that_may_be_negative() -> None:
    reference = np.array([-60.0, -55.0, -50.0])
    values = np.array([-70.0, -50.0, -49.0, -40.0, 0.0, 1.0])
    found = scores.rarity(reference, values)
    assert found == pytest.approx([0, math.log(2), *(math.log(4) + np.log1p((values[2:] + 50) / 10))])
    assert np.allclose(Rarity(reference)(torch.from_numpy(values)).numpy(), found)


def test_labels_of_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.arange(5))
    assert np.array_equal(inputs.labels(tmp_path / "y.npy", 5), np.arange(5))
    with pytest.raises(DataError, match=r"y.npy: expected 6 labels, one for each row, found shape \(5,\)"):
        inputs.labels(tmp_path / "y.npy", 6)
    np.savez(tmp_path / "two.npz", a=np.arange(5), b=np.arange(5))
    with pytest.raises(DataError, match=r"two.npz: expected an array y, found a, b"):
        inputs.labels(tmp_path / "two.npz", 5)
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(DataError, match=r"words.npy: expected numbers"):
        inputs.labels(tmp_path / "words.npy", 2)
    np.save(tmp_path / "gaps.npy", np.array([0, np.nan, 1]))
    with pytest.raises(DataError, match=r"gaps.npy: row 2 has no label"):
        inputs.labels(tmp_path / "gaps.npy", 3)
