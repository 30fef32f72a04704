"""A trained encoder as a scikit-learn transformer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, validate_data

from autoenc.data.dataset import DataSpec
from autoenc.errors import UserError


class Coder(Protocol):
    """The part of the interface of `Run` that is used here."""

    spec: DataSpec

    @property
    def latent_dim(self) -> int: ...

    def encode(self, x: np.ndarray) -> np.ndarray: ...

    def decode(self, z: np.ndarray) -> np.ndarray: ...


@contextlib.contextmanager
def value_errors() -> Iterator[None]:
    """Convert `UserError` to ValueError, as scikit-learn's estimators raise."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None


class CodeTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Encode rows (N, D) to codes (N, K) with a trained run.

    Runs on tables and texts also accept data frames and lists of texts. Images are rows of C H W values in the range of
    the training data. `transform` needs no `fit`, which only checks the number and stores the names of the columns.
    `inverse_transform` decodes. All results are float32. To train an autoencoder as an estimator, see
    `autoenc.estimators.autoencoder.AutoencoderTransformer`.

    Args:
        run: a finished run, from `load_run`.

    Raises:
        ValueError: another number of columns, or values that are not finite or outside the support of the likelihood.
    """

    def __init__(self, run: Coder):
        self.run = run

    @property
    def n_features_in_(self) -> int:
        """Number D of columns that the run was trained on."""
        return math.prod(self.run.spec.shape)

    @n_features_in_.setter
    def n_features_in_(self, found: int) -> None:  # set by scikit-learn's validation in `fit`
        if found != self.n_features_in_:
            name, wanted = type(self).__name__, self.n_features_in_
            raise ValueError(f"X has {found} features, but {name} is expecting {wanted} features as input")

    @property
    def _n_features_out(self) -> int:
        return self.run.latent_dim

    def fit(self, X: Any, y: Any = None) -> CodeTransformer:
        """Check X (N, D) against the run."""
        self._rows(X, reset=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode X (N, D) to codes (N, K)."""
        rows = self._rows(X, reset=False)
        with value_errors():
            return self.run.encode(rows)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes (N, K) to rows (N, D)."""
        with value_errors():
            rows = self.run.decode(check_array(X, dtype=np.float32))
        return rows.reshape(len(rows), -1)

    def _rows(self, X: Any, reset: bool) -> Any:
        kind = self.run.spec.kind
        framed = hasattr(X, "iloc") and bool(kind.columns or kind.timed)  # in the units of the files
        if framed or (kind.encodes_objects and not issparse(X) and np.asarray(X).dtype.kind not in "biuf"):
            return X  # data frames, texts, paths: the kind of data encodes them
        return validate_data(self, X, reset=reset, dtype=np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
