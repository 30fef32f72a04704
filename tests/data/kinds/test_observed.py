"""Which cells of a table are observed, and what a likelihood of those alone computes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc import likelihoods
from autoenc.core import Autoencoder, Batch
from autoenc.data import table
from autoenc.data.kinds.observed import Column, Observed
from autoenc.data.readers.cells.class_names import MISSING
from autoenc.errors import ConfigError

COLUMNS = (
    Column("a", "number", 0, 1, indicator=2, fill=9.0), Column("b", "number", 1, 2, fill=8.0),
    Column("a missing", "number", 2, 3), Column("c", "category", 3, 6, indicator=5),
)  # fmt: skip
ROWS = {
    "all": ([0.5, 1.0, 0.0, 1, 0, 0], [1, 1, 0, 1, 1, 0]),
    "the indicator": ([0.5, 1.0, 1.0, 0, 1, 0], [0, 1, 0, 1, 1, 0]),
    "the fill, with and without an indicator": ([9.0, 8.0, 0.0, 0, 1, 0], [0, 0, 0, 1, 1, 0]),
    "the value `missing`": ([0.5, 1.0, 0.0, 0, 0, 1], [1, 1, 0, 0, 0, 0]),
    "a category not known": ([0.5, 1.0, 0.0, 0, 0, 0], [1, 1, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_cell_is_missing_by(name: str) -> None:
    x, expected = (torch.tensor(each, dtype=torch.float32) for each in ROWS[name])
    found = Observed(COLUMNS)(x)
    assert found.tolist() == expected.bool().tolist()
    assert torch.equal(Observed(COLUMNS)(x.expand(2, 3, -1))[1, 2], found)


def test_the_likelihood_is_that_of_the_observed_cells() -> None:
    """A row without a missing cell has the nll of a table without indicators; each missing cell takes its term away."""
    whole = likelihoods.Table(COLUMNS[:2] + (Column("c", "category", 2, 4),), sigma=0.7)  # noqa: RUF005
    part = likelihoods.Table(COLUMNS, sigma=0.7, observed_only=True)
    params = torch.randn(4, 6)
    plain = params[:, [0, 1, 3, 4]]
    x = torch.tensor(ROWS["all"][0], dtype=torch.float32).expand(4, -1)
    terms = whole.nll_per_dim(plain, x[:, [0, 1, 3, 4]])
    torch.testing.assert_close(part.nll(params, x), terms.sum(1))
    x = torch.tensor([0.5, 1.0, 1.0, 0, 0, 1]).expand(4, -1)  # a and c are missing
    torch.testing.assert_close(part.nll(params, x), terms[:, 1])
    assert part.nll(params.expand(3, 4, 6), x).shape == (3, 4)
    for made in (part.mean(params), part.sample(params, torch.ones(6))):
        assert part.observed(made)[:, [0, 1, 3, 4]].all(), "it makes no missing cells"
    torch.testing.assert_close(part.mean(params)[:, 3:].sum(1), torch.ones(4))


def test_nothing_of_a_missing_cell_enters_the_encoder_or_gets_a_gradient(
    make_model: Callable[..., Autoencoder],
) -> None:
    model = make_model(likelihood=likelihoods.Table(COLUMNS, observed_only=True))
    x = torch.tensor([[0.5, 1.0, 1.0, 0, 0, 1], [9.0, 1.0, 0.0, 0, 0, 0], [3.0, 1.0, 1.0, 0, 0, 1]])
    code = model.encode(Batch(x)).mean
    torch.testing.assert_close(code[[0, 0]], code[1:], msg="b alone is observed in all of them")
    params = torch.randn(3, 6, requires_grad=True)
    model.likelihood.nll(params, x).sum().backward()
    assert params.grad is not None
    assert (params.grad.abs() > 0).tolist() == [[False, True, False, False, False, False]] * 3


def test_columns_of_a_file_know_their_missing_cells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60), "c": rng.choice(["red", "blue"], 60)})
    frame["day"] = pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d")
    holes = frame.copy()
    for name, row in (("a", 1), ("c", 2), ("day", 3)):
        holes.loc[row::7, name] = None
    holes.to_csv(tmp_path / "holes.csv", index=False)
    kind = table(str(tmp_path / "holes.csv")).spec.kind
    new = holes.iloc[:8].copy()
    new.loc[0, "b"] = None  # training has no example of that
    new.loc[4, "c"] = "green"
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(UserWarning, match="not seen in training: green"):
        x = kind.read(tmp_path / "new.csv").split.tensor
    observed = Observed(kind.columns)(x)
    expected = new.notna().assign(c=new["c"].notna() & (new["c"] != "green"))
    for column in kind.columns:
        here = observed[:, column.start : column.stop]
        source = next((name for name in new if column.name == name or column.name.startswith(f"{name} ")), None)
        assert source is not None
        if column.name == f"{source} {MISSING}":
            assert not here.any(), "indicators are no data"
        elif column.kind == "category":
            assert here.any(1).tolist() == expected[source].tolist(), column.name
        else:
            assert here[:, 0].tolist() == expected[source].tolist(), column.name


def test_other_data_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"only tables \(data=table\) have missing cells; model=iwae"):
        likelihoods.Table((), observed_only=True)
    whole = likelihoods.Table((Column("a", "number", 0, 1), Column("b", "number", 1, 2)), observed_only=True)
    assert "no training row has a missing cell" in whole.remark
    assert not likelihoods.Table(COLUMNS, observed_only=True).remark
