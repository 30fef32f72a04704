"""scikit-learn's conventions for the estimator that trains."""

import pickle
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from hydra.version import VersionBase
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split, hold_out
from autoenc.estimators import AutoencoderTransformer
from autoenc.estimators.inmemory import compose

X, Y = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
SMALL: dict[str, Any] = {"model": "ae", "latent_dim": 3, "hidden": (16,), "epochs": 2}


def small(**changes: Any) -> AutoencoderTransformer:
    return AutoencoderTransformer(**SMALL | changes)


@pytest.fixture(scope="module")
def fitted() -> AutoencoderTransformer:
    return small(model="vae").fit(X[:200])


def test_the_estimator_passes_every_check_of_scikit_learn() -> None:
    estimator = small(model="vae", epochs=1, overrides=["noise=gaussian"])
    results = check_estimator(estimator, on_skip=None)  # a failure raises
    assert len(results) > 40
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}  # needs SciPy's


def test_codes_tell_digits_apart_better_than_principal_components_do() -> None:
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    autoencoder = AutoencoderTransformer("ae", 4, hidden=(64,), epochs=15, learning_rate=0.004, image_shape=(8, 8))
    accuracy = {}
    for name, reduction in (("pca", PCA(4)), ("codes", autoencoder)):
        pipeline = make_pipeline(reduction, StandardScaler(), LogisticRegression(max_iter=1000))
        accuracy[name] = pipeline.fit(train, y_train).score(test, y_test)
    assert accuracy["codes"] > accuracy["pca"] + 0.03
    assert accuracy["codes"] > 0.82


def test_the_linear_model_reaches_the_error_of_pca() -> None:
    x = StandardScaler().fit_transform(X[:600, X.std(0) > 1])
    model = AutoencoderTransformer("linear", 4, epochs=20, batch_size=32).fit(x)
    pca = PCA(4).fit(x)
    error = np.mean((x - pca.inverse_transform(pca.transform(x))) ** 2)
    assert error <= -model.score(x) < 1.03 * error


def test_a_grid_search_finds_that_a_longer_code_reconstructs_better() -> None:
    x = X[:600]
    model = AutoencoderTransformer("ae", hidden=(64,), epochs=15, learning_rate=0.004, image_shape=(8, 8))
    search = GridSearchCV(model, {"latent_dim": [2, 8]}, cv=2).fit(x)
    assert search.best_params_ == {"latent_dim": 8}
    short, long = search.cv_results_["mean_test_score"]
    assert long > 0.8 * short  # both are negative
    assert short > -x.var(0).mean()  # two numbers are better than the mean


def test_score_is_the_error_in_the_units_of_the_data() -> None:
    x = X[:100] * 1000 + 5
    model = small().fit(x)
    assert model.score(x) == pytest.approx(-np.mean((x - model.inverse_transform(model.transform(x))) ** 2))


def test_scaling_goes_by_columns_or_over_all_pixels() -> None:
    x = X[:200]
    columns, pixels, none = (small(**kw).fit(x) for kw in ({}, {"image_shape": (8, 8)}, {"scale": False}))
    x = x[hold_out(Split(torch.arange(200)), 0.1, columns.config_["seed"], "val_fraction")[0].tensor.numpy()]
    assert len(x) == 180, "nothing is learned from the rows that choose the weights"
    expected = StandardScaler().fit(x)
    np.testing.assert_allclose(columns.mean_, expected.mean_)
    np.testing.assert_allclose(columns.scale_, expected.scale_)
    np.testing.assert_allclose((pixels.mean_, pixels.scale_), ([x.mean()], [x.std()]))
    assert (none.mean_, none.scale_) == (0, 1)
    assert pixels.spec_ == DataSpec("X, standardised,", Image((1, 8, 8), pixels.spec_.low, pixels.spec_.high))
    assert columns.spec_.shape == (64,)


def test_columns_of_any_scale_and_constant_ones_are_learnt() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 1)) * [1e-4, 1, 1e5, 0, 0] + [0, -7, 1e6, 3, 0]
    model = AutoencoderTransformer("linear", 1, epochs=60).fit(x)
    error = np.mean((x - model.inverse_transform(model.transform(x))) ** 2, axis=0)
    assert (error[:3] < 1e-3 * x.var(0)[:3]).all()
    assert (error[3:] < 1e-3).all()


def test_the_random_state_decides_and_torchs_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other, drawn = (
        small(random_state=s).fit_transform(X[:200]) for s in (0, 0, 1, np.random.RandomState(0))
    )
    small().fit(X[:200]).score(X[:200])
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - drawn).max() > 0.1
    unseeded = small(random_state=None)
    assert unseeded.fit(X[:50]).config_["seed"] != unseeded.fit(X[:50]).config_["seed"]


def test_the_best_weights_are_kept() -> None:
    """Of a network that learns 30 rows of noise by heart the last weights are not the best ones for others."""
    x = np.random.default_rng(0).normal(size=(60, 10))
    model = AutoencoderTransformer("ae", 4, hidden=(64,), epochs=60, learning_rate=0.01, val_fraction=0.5).fit(x)
    errors = [line["mse"] for line in model.history_ if line["split"] == "val"]
    assert len(errors) == 60
    assert min(errors) < 0.95 * errors[-1]
    held = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:30].numpy()  # as hold_out draws them
    back = model.inverse_transform(model.transform(x[held]))
    assert np.mean(((x[held] - back) / model.scale_) ** 2) == pytest.approx(min(errors), rel=1e-4)


@pytest.fixture
def empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory and the folder for temporary files; both must be empty at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_training_leaves_no_file_and_says_nothing(empty_folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small().fit(X[:100])
    assert "".join(capfd.readouterr()) == ""
    small(verbose=True).fit(X[:100])
    assert "val loss" in capfd.readouterr().out


def test_an_interrupt_in_training_is_a_keyboard_interrupt(empty_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        "autoenc.estimators.inmemory._History.evaluation", lambda *args: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        small(epochs=100_000).fit(X[:100])
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_hydra_of_the_caller_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("a: ${hydra:runtime.choices.x}\nhydra: {job: {name: theirs}}\n")
    with hydra.initialize_config_dir(str(tmp_path), job_name="theirs", version_base="1.2"):
        before = GlobalHydra.instance(), GlobalHydra.instance().hydra, VersionBase.instance().getbase()
        small().fit(X[:50])
        with pytest.raises(ValueError, match=r"did you mean noise.std=1"):  # composes twice
            small(model="dae", overrides=["noise.sdt=1"]).fit(X[:50])
        assert before == (GlobalHydra.instance(), GlobalHydra.instance().hydra, VersionBase.instance().getbase())
        assert JobRuntime.instance().get("name") == "theirs"
        assert "a" in hydra.compose("theirs")
    assert not GlobalHydra.instance().is_initialized()


def test_the_config_is_that_of_the_command_line() -> None:
    model = small(model="dae", network="mlp", learning_rate=0.01, batch_size=7, overrides=["noise.std=0.5"]).fit(X[:50])
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        line = "data=arrays model=dae model.latent_dim=3 network=mlp network.hidden=[16] optimizer.lr=0.01"
        line += " trainer.epochs=2 trainer.batch_size=7 noise.std=0.5"
        assert model.config_ == config.check(hydra.compose("config", overrides=line.split()))
    assert model.model_.noise.std == 0.5


def test_what_is_not_named_is_left_to_the_model() -> None:
    assert small(model="topk", latent_dim=None, hidden=None).fit(X[:50]).transform(X[:5]).shape == (5, 256)
    composed = AutoencoderTransformer("linear", 4, epochs=1).fit(X[:50]).config_
    assert composed["network"]["_target_"] == "autoenc.networks.linear"
    assert composed["optimizer"]["lr"] == 0.03


def test_two_fits_do_not_share_a_config() -> None:
    first = compose(["data=arrays"])
    first["network"]["hidden"].append(1)
    assert compose(["data=arrays"])["network"]["hidden"] != first["network"]["hidden"]


def test_convolutions_on_rows_that_are_images() -> None:
    overrides = ["network.channels=[4,8]", "likelihood=bernoulli"]
    options = {"network": "conv", "latent_dim": 8, "hidden": 16, "learning_rate": 0.01, "scale": False, "epochs": 8}
    model = small(**options, overrides=overrides, image_shape=(1, 8, 8)).fit(X[:600] / 16)
    assert isinstance(model.model_.encoder[0], torch.nn.Conv2d)
    back = model.inverse_transform(model.transform(X[:10] / 16))
    assert back.shape == (10, 64)
    assert 0 < back.min() < back.max() < 1
    assert -model.score(X[:600] / 16) < 0.95 * (X[:600] / 16).var(0).mean()
    with pytest.raises(ValueError, match=r"conv needs images or series; the data are vectors of 64 numbers"):
        small(**options).fit(X[:50] / 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dea"}, "model=dea: no such option; did you mean 'dae'?"),
        ({"latent_dim": 0}, "model.latent_dim=0: must be 1 or more"),
        ({"latent_dim": 2.5}, "model.latent_dim=2.5: must be a whole number"),
        ({"image_shape": (7, 7)}, "image_shape=(7, 7): must be (C, H, W) or (H, W) with 64 values"),
        ({"val_fraction": 1.5}, "val_fraction=1.5: must lie between 0 and 1"),
        ({"val_fraction": 0.999}, "val_fraction=0.999"),
        ({"overrides": "trainer.clip=1"}, "overrides: must be a list of 'KEY=VALUE', found 'trainer.clip=1'"),
        ({"overrides": ["trainer.epochs=3"]}, "overrides: trainer.epochs=3: set the parameter epochs instead"),
        ({"overrides": ["data=mnist"]}, "overrides: data=mnist: is not supported; data are passed to fit"),
        ({"overrides": ["labels=9"]}, "overrides: labels=9: is not supported; data are passed to fit"),
        ({"overrides": ["init_from=RUN"]}, "overrides: init_from=RUN: is not supported"),
        ({"overrides": ["tracking=[wandb]"]}, "overrides: tracking=[wandb]: is not supported"),
        ({"model": "cvae"}, "model.condition: needs labels, and X, standardised, has none; model=vae needs none"),
        ({"overrides": ["trainer.klip=1"]}, "trainer.klip: no such key; did you mean trainer.clip=1?"),
        ({"overrides": ["trainer.monitor=x"]}, "trainer.monitor=x: must be one of loss, nll, mse"),
        ({"overrides": ["likelihood=bernoulli"]}, "Bernoulli needs values in [0, 1]; X, standardised, has "),
        ({"learning_rate": 1e30}, "is not finite; try a smaller learning_rate"),
        ({"device": "tpu"}, "trainer.device=tpu: must be one of auto, cpu, cuda"),
    ],
)
def test_a_wrong_parameter_is_a_value_error_of_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        small(**changes).fit(X[:50])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_too_few_rows_and_values_beyond_float32() -> None:
    with pytest.raises(ValueError, match=r"1 sample\(s\)"):
        small().fit(X[:1])
    assert small().fit(X[:2]).transform(X[:2]).shape == (2, 3)
    with pytest.raises(ValueError, match="too large for dtype"):
        small(scale=False).fit(X[:50] * 1e300)
    with pytest.raises(NotFittedError):
        small().transform(X)


def test_codes_of_another_width(fitted: AutoencoderTransformer) -> None:
    with pytest.raises(ValueError, match=r"codes: expected \(N, 3\), found \(2, 4\)"):
        fitted.inverse_transform(np.zeros((2, 4)))


def test_a_pickle_and_pandas(fitted: AutoencoderTransformer) -> None:
    codes = fitted.transform(X[:20])
    assert codes.dtype == np.float32
    read = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(read.transform(X[:20]), codes)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:100]).add_prefix("pixel")
    model = small().set_output(transform="pandas").fit(frame)
    assert list(model.transform(frame)) == [f"autoencodertransformer{i}" for i in range(3)]
    assert list(model.feature_names_in_) == list(frame)


def test_a_failed_fit_leaves_the_earlier_one_whole() -> None:
    model = small().fit(X[:100])
    before = model.transform(X[:5])
    with pytest.raises(ValueError, match="learning_rate"):
        model.set_params(learning_rate=1e20).fit(100 * X[:100] + 7)
    np.testing.assert_array_equal(model.set_params(learning_rate=None).transform(X[:5]), before)
