"""What figures show."""

import gc
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoenc import canvas
from autoenc.canvas import class_styles, legend_name, line_panels, new_figure, picture_grid, pixels, scatter, titled
from autoenc.core import Autoencoder
from autoenc.data.dataset import Data
from autoenc.data.kinds.observed import Column
from autoenc.figures import curves, of_codes, of_model, of_run
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


@pytest.mark.parametrize(("variances", "red"), [([1.0, 0.5], False), ([1.0, 0.001], True)])
def test_inactive_units_are_explained_where_there_are_some(
    variances: list[float], red: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(of_codes, "pixels", drawn.append)
    stats = SimpleNamespace(kl=torch.tensor([2.0, 0.1]), variance=torch.tensor(variances))
    of_codes.units(SimpleNamespace(stats=stats))  # type: ignore[arg-type]
    assert ("red" in drawn[0].axes[0].get_xlabel()) is red


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


Drawn = Callable[[], Axes]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Return the axes of the latest figure that was rendered."""
    figures: list[Figure] = []
    monkeypatch.setattr(canvas, "verbatim", figures.append)
    return lambda: figures[-1].axes[0]


def test_frames_and_texts_of_tiles_take_their_own_space() -> None:
    tiles = torch.ones(4, 1, 56, 56)
    plain = picture_grid(tiles, 2, 0, 1)
    marked = picture_grid(tiles, 2, 0, 1, ["a row"] * 2, ["", "", "1", "2 wrong"], ["#ff0000", None, None, None])
    assert plain.shape == (2 * 58 + 2, 2 * 58 + 2, 3)
    assert marked.shape[0] == 2 * 60 + 4 + canvas.LINE, "only the second row has texts"
    frame = (marked == (255, 0, 0)).all(-1)
    rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
    assert len(rows) == len(columns) == 56 + 6
    assert rows[0] == 1
    assert not frame[rows[0] + 3 : rows[-1] - 2, columns[0] + 3 : columns[-1] - 2].any(), "the tile is whole"


def test_a_title_keeps_the_image_and_shows_the_scale_of_its_colours() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    above = titled(image, "a title that is wider than the image\nand \x1b[31m a second line", ("gray", "0", "1.5"))
    assert above.shape[0] == 20 + 3 * canvas.LINE + 6
    assert (above[-20:, :30] == image).all()
    assert (above[-20:, 30:] == 255).all()


@pytest.mark.parametrize("count", [2, 10, 11, 30, 180])
def test_classes_differ_in_colour_or_marker(count: int) -> None:
    assert len(set(class_styles(count))) == count


def test_many_classes_with_long_names_leave_room_for_the_points(drawn: Drawn) -> None:
    labels = torch.arange(200)
    scatter(np.random.default_rng(0).normal(size=(200, 2)), labels, ("a very long name " * 5,) * 150, ("", ""), "")
    axes = drawn()
    width, height = axes.get_figure().get_size_inches()
    box = axes.get_position()
    assert box.width * width > 0.8 * box.height * height
    (legend,) = axes.get_figure().legends
    assert len(legend.get_texts()) == canvas.NAMED
    assert legend.get_texts()[-1].get_text() == "126 more"


def test_shortened_names_of_classes_differ_where_they_can(drawn: Drawn) -> None:
    for form in (
        "species {} with a very long name",
        "a very long name of species {}",
        "a very long name {} of the species",
    ):
        names = tuple(form.format(i) for i in range(12))
        scatter(np.zeros((12, 2)), torch.arange(12), names, ("", ""), "")
        (legend,) = drawn().get_figure().legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert len(set(texts)) == 12
        assert max(map(len, texts)) == 24


def test_the_loss_curve_marks_the_kept_weights_and_survives_a_huge_first_value(drawn: Drawn) -> None:
    values = [1e9, *(5 + 10 / step for step in range(2, 31))]
    lines = [{"step": 10 * i, "split": s, "loss": v} for i, v in enumerate(values, 1) for s in ("train", "val")]
    curves(lines, kept=250, monitor="nll")
    axes = drawn()
    assert axes.get_ylim()[1] < 20
    (line,) = [line for line in axes.lines if "step 250, best nll" in str(line.get_label())]
    assert line.get_xdata() == [250, 250]
    curves([{"step": 2, "split": "val", "loss": 1.0}], units={"loss": ""})
    assert drawn().get_ylabel() == "loss ↓ per example"
    assert all(tick == int(tick) >= 0 for tick in drawn().get_xticks() if tick <= 2), "steps are whole numbers"
    curves([line for line in lines if line["step"] > 10])
    assert drawn().get_ylim()[1] > 10, "all values of an ordinary curve are visible"
    curves([])


def test_categories_are_bars_and_other_vectors_lines(drawn: Drawn) -> None:
    one_hot = np.eye(5)[1]
    line_panels([{"input": one_hot, "output": one_hot * 0.9}])
    assert [bar.get_height() for bar in drawn().patches] == [*one_hot, *one_hot * 0.9]
    assert not drawn().lines
    line_panels([{"input": one_hot - 0.5, "output": one_hot}])
    assert len(drawn().lines) == 2


def test_figures_are_freed() -> None:
    figures = [new_figure(0.5, 0.5) for _ in range(20)]
    for figure in figures:
        pixels(figure)
    alive = [weakref.ref(figure) for figure in figures]
    del figure, figures
    gc.collect()
    assert not any(figure() for figure in alive)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
