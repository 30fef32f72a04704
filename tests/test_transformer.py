"""A finished run as a transformer: the checks of check_estimator that apply, which itself fits other widths."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from autoenc import data
from autoenc.estimators import AutoencoderTransformer
from autoenc.loading import Run
from autoenc.transformer import CodeTransformer

X, Y = load_digits(return_X_y=True)  # (1797, 64), 0 to 16
SMALL: dict[str, Any] = {"latent_dim": 3, "hidden": (16,), "epochs": 2}
ROWS = StandardScaler().fit_transform(X[:200])
IMAGES = ROWS.astype(np.float32).reshape(-1, 1, 8, 8)


@pytest.fixture(scope="module")
def run() -> Run:
    """A run on standardised digits."""
    model = AutoencoderTransformer(**SMALL, model="vae", image_shape=(8, 8), scale=False).fit(ROWS)
    return Run(Path("run"), model.model_, model.config_, model.spec_, {}, torch.device("cpu"))


def test_a_run_transforms_without_fit(run: Run) -> None:
    transformer = run.as_transformer()
    codes = transformer.transform(ROWS)
    np.testing.assert_array_equal(codes, run.encode(IMAGES))
    np.testing.assert_array_equal(transformer.inverse_transform(codes), run.decode(codes).reshape(-1, 64))
    assert transformer.n_features_in_ == 64
    assert list(transformer.get_feature_names_out()) == ["codetransformer0", "codetransformer1", "codetransformer2"]
    check_is_fitted(transformer)


def test_a_run_in_a_pipeline_that_is_fitted(run: Run) -> None:
    pipeline = make_pipeline(run.as_transformer(), LogisticRegression()).fit(ROWS, Y[:200])
    alone = LogisticRegression().fit(run.encode(IMAGES), Y[:200])
    np.testing.assert_array_equal(pipeline.predict(ROWS), alone.predict(run.encode(IMAGES)))


def test_fit_changes_nothing_but_the_names_of_columns(run: Run) -> None:
    transformer = run.as_transformer()
    assert transformer.fit(ROWS) is transformer
    np.testing.assert_array_equal(transformer.fit_transform(ROWS), run.encode(IMAGES))
    copied = clone(transformer)
    assert copied is not transformer
    assert copied.get_params() == {"run": run}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transformer)).transform(ROWS), run.encode(IMAGES))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS).add_prefix("pixel")
    codes = clone(transformer).set_output(transform="pandas").fit(frame).transform(frame)
    assert codes.shape == (200, 3)
    with pytest.raises(ValueError, match="feature names should match"):
        clone(transformer).fit(frame).transform(frame.add_suffix("x"))


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_a_run_refuses_what_it_was_not_trained_on(run: Run, method: str) -> None:
    use = getattr(run.as_transformer(), method)
    with pytest.raises(ValueError, match="X has 63 features, but CodeTransformer is expecting 64 features as input"):
        use(ROWS[:, :63])
    with pytest.raises(ValueError, match="contains NaN"):
        use(np.full((2, 64), np.nan))
    with pytest.raises(ValueError, match="Expected 2D array"):
        use(ROWS[0])
    with pytest.raises(TypeError, match="Sparse data was passed"):
        use(csr_array(ROWS))


def test_what_the_model_gives_no_density_is_a_value_error(run: Run) -> None:
    model = AutoencoderTransformer("ae", **SMALL, scale=False, overrides=["likelihood=bernoulli"]).fit(X / 16)
    bernoulli = Run(Path("run"), model.model_, model.config_, model.spec_, {}, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"input: expected values in \[0, 1\], found 0 to 16"):
        CodeTransformer(bernoulli).transform(X)
    with pytest.raises(ValueError, match=r"codes: expected \(N, 3\), found \(2, 4\)"):
        run.as_transformer().inverse_transform(np.zeros((2, 4)))


def test_data_frames_of_tables_are_in_the_units_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"a": 1e3 + np.random.default_rng(0).normal(size=80), "b": np.random.default_rng(1).random(80)}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = SimpleNamespace(spec=data.table(str(tmp_path / "t.csv")).spec, encode=lambda rows: rows)
    transformer = CodeTransformer(table)  # type: ignore[arg-type]
    assert transformer.transform(frame) is frame, "the kind of data scales them; an array has scaled rows"
    assert isinstance(transformer.transform(np.zeros((2, 2))), np.ndarray)
