"""What pictures show, where it is computed for them."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc.canvas import legend_name, line_panels, new_figure, picture_grid, pixels, scatter
from autoenc.core import Autoencoder
from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Column
from autoenc.figures import of_model, of_run
from autoenc.figures.of_model import column_fit
from autoenc.objective import Objective
from autoenc.training.evaluation import evaluate
from autoenc.training.tracking import Tracker


def test_how_well_columns_are_reconstructed() -> None:
    x = torch.tensor([[0.0, 7.0, 1, 0, 0], [2.0, 7.0, 0, 1, 0], [4.0, 7.0, 0, 1, 0], [6.0, 7.0, 0, 0, 1]])
    made = x.clone()
    made[:, 0] = torch.tensor([1.0, 2.0, 4.0, 6.0])  # squared error 1 / 4, variance 5
    made[3, 2:] = torch.tensor([0.5, 0.3, 0.2])
    columns = [Column("a", "number", 0, 1), Column("same", "number", 1, 2), Column("c", "category", 2, 5)]
    fit = [(column.name, value, chance) for column, value, chance in column_fit(x, made, columns)]
    assert fit == [("a", 0.95, None), ("c", 0.75, 0.5)]
    assert column_fit(x, x.mean(0).expand(4, 5), columns)[0][1] == 0
    assert column_fit(x, -9 * x, columns)[0][1] == 0, "cut off at what the mean gets"


def test_values_beyond_the_range_are_cut_off_and_not_wrapped_around() -> None:
    tile = torch.tensor([[-0.5, 0.0], [1.0, 1.5]]).expand(1, 1, 2, 2)
    grid = picture_grid(tile, 1, 0.0, 1.0)
    inside = np.unique(grid[2:-2, 2:-2])
    assert inside.tolist() == [0, 255]


@pytest.mark.parametrize(("channels", "drawn"), [(1, [0, 0, 0]), (2, [1, 1, 1]), (4, [0, 2, 4]), (8, [0, 2, 4])])
def test_images_of_any_number_of_channels_are_drawn(channels: int, drawn: list[int]) -> None:
    x = 2 * torch.arange(channels).reshape(1, channels, 1, 1).expand(1, channels, 60, 60)
    assert picture_grid(x, 1, 0.0, 255.0)[30, 30].tolist() == drawn


NAMES = ("$a_{$", "_hidden", "[red]", "two\nlines\tand a tab", "$x^2$", "price in $")


def test_names_of_classes_are_drawn_as_they_are(
    make_model: Callable[..., Autoencoder], make_data: Callable[..., Data]
) -> None:
    points = np.random.default_rng(0).normal(size=(len(NAMES), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scatter(points, torch.arange(len(NAMES)), NAMES, ("$", "_"), "100 $ and $")
        line_panels([{name: np.zeros(3) for name in NAMES}], ["$a_{$"])
    names = [legend_name(name) for name in NAMES]
    assert names[:4] == ["$a_{$", " _hidden", "[red]", "two lines and a tab"]
    figure = new_figure(4, 3)
    axes = figure.subplots()
    for name in names:
        axes.plot([0], label=name)
    axes.legend()
    pixels(figure)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    assert not any(text.get_parse_math() for text in axes.get_legend().get_texts())


def test_a_figure_that_cannot_be_drawn_is_logged(
    make_model: Callable[..., Autoencoder],
    make_data: Callable[..., Data],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, data = make_model(), make_data()
    evaluation = evaluate(model, Objective({}), data.val, data.spec, 8)
    whole = of_run(model, data.val, data.spec, evaluation)

    def broken(*_: object) -> None:
        raise ValueError("no such figure\n...")

    monkeypatch.setattr(of_model, "units", broken)
    with caplog.at_level("WARNING", "autoenc"):
        rest = of_run(model, data.val, data.spec, evaluation)
    assert rest.keys() == whole.keys() - {"latent_units"}
    assert caplog.messages == ["figure latent_units cannot be drawn: ValueError: no such figure"]


def test_labels_of_the_projector_are_a_line_each(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.embedding(torch.randn(len(NAMES), 3), list(NAMES), None)
    tracker.close()
    lines = next(tmp_path.rglob("metadata.tsv")).read_text().splitlines()
    assert lines == [" ".join(name.split()) for name in NAMES]
