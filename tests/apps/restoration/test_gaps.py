"""Imputation of recordings, on models whose reconstruction is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from autoenc import bottlenecks, likelihoods
from autoenc.apps.restoration import gaps
from autoenc.core import Autoencoder
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.series import Series
from autoenc.data.kinds.series.gaps import completed, gap_lengths
from autoenc.data.readers.recordings import Format, Recording
from autoenc.loading import Run


def test_hidden_steps_are_the_fixed_point_of_the_reconstruction(tmp_path: object) -> None:
    """The reconstruction is a projection onto sine and cosine of one period."""
    t = 2 * np.pi * np.arange(16) / 8
    basis = torch.tensor(np.stack([np.sin(t), np.cos(t)], 1) / np.sqrt(8), dtype=torch.float32)  # orthonormal (16, 2)
    encoder, decoder = nn.Linear(16, 2, bias=False), nn.Linear(2, 16, bias=False)
    encoder.weight.data, decoder.weight.data = basis.T.clone(), basis.clone()
    bottleneck = bottlenecks.Deterministic((2,), 2)
    bottleneck.linear = nn.Identity()
    parts = [nn.Sequential(nn.Flatten(), encoder), bottleneck, nn.Sequential(decoder, nn.Unflatten(1, (1, 16)))]
    model = Autoencoder(nn.Identity(), *parts, likelihoods.Gaussian())
    spec = DataSpec("tiny", Series((1, 16), -9, 9))
    run = Run(tmp_path, model, {"trainer": {"eval_batch_size": 50}}, spec, {}, torch.device("cpu"))
    x = (torch.randn(20, 2) @ basis.T)[:, None]
    hidden = gaps.hidden_steps((20, 1, 16), 3)
    assert (hidden.sum(2) == 3).all()
    assert not hidden[..., [0, -1]].any(), "a gap has two ends"
    found = gaps.versions(run, x.masked_fill(hidden, torch.nan), hidden)
    errors = {name: gaps.rmse(each, x, hidden) for name, each in found.items()}
    assert errors["model"] < 1e-3 < errors[gaps.LINEAR]
    assert all(torch.equal(each[~hidden], x[~hidden]) for each in found.values())
    shifted = gaps.versions(run, (x + 5).masked_fill(hidden, torch.nan), hidden)  # what the model does not reconstruct
    fitted, plain = (gaps.rmse(shifted[name], x + 5, hidden) for name in ("model, fitted to the ends", "model"))
    assert fitted < plain / 2
    assert gaps.best(errors) != gaps.LINEAR


def test_linear_interpolation_is_that_of_numpy_and_zero_where_nothing_is_known() -> None:
    x = np.array([[[0.0, 9, 9, 6], [1, 2, 3, 4]]])
    hidden = np.array([[[False, True, True, False], [True] * 4]])
    np.testing.assert_allclose(gaps.interpolated(x, hidden), [[[0, 2, 4, 6], [0, 0, 0, 0]]])


@pytest.mark.parametrize(
    ("stamps", "filled"),
    [
        (["10", "11", "14", "30"], ["12", "13"]),
        (["2024-02-28 23:59:58", "2024-02-28 23:59:59", "2024-02-29 00:00:02", "2024-02-29 00:00:18"],
         ["2024-02-29 00:00:00", "2024-02-29 00:00:01"]),
        (["2024-02-28T23:59:58Z", "2024-02-28T23:59:59Z", "2024-02-29T00:00:02Z", "2024-02-29T00:00:18Z"],
         ["2024-02-29T00:00:00+00:00", "2024-02-29T00:00:01+00:00"]),
    ],
)  # fmt: skip
def test_rows_of_missing_steps_have_time_stamps_and_long_gaps_stay_empty(stamps: list[str], filled: list[str]) -> None:
    frame = pd.DataFrame({"when": stamps, "x": ["1,5", np.nan, "4", np.nan]})
    observed = np.array([[True], [False], [False], [False], [True]])
    rows = np.array([0, 1, 4, -1])  # the last lies in a gap that is not filled
    recording = Recording("r", np.zeros((5, 1)), ((0, 5),), 1.0, rows=rows, stamps=stamps, observed=observed)
    values = np.array([[[1.5], [2.25], [3.0], [3.5], [4.0]]])
    whole = completed(frame, recording, values, Format(("x",), time="when", decimal=","))
    assert whole.versions[0]["when"].tolist() == [*stamps[:2], *filled, *stamps[2:]]
    assert whole.versions[0]["x"].fillna("").tolist() == ["1,5", "2,25", "3", "3,5", "4", ""]
    assert whole.counts == {"cells": 3, "rows": 3, "columns": 1}
    assert gap_lengths(observed).tolist() == [3, 3, 3]
