"""Figures of models, codes and metrics, for TensorBoard and figures/."""

from autoenc.canvas import new_figure, picture_grid, pixels, scatter, titled
from autoenc.figures.of_codes import curves, sprites
from autoenc.figures.of_model import dictionary, of_run, tried

__all__ = [
    "curves",
    "dictionary",
    "new_figure",
    "of_run",
    "picture_grid",
    "pixels",
    "scatter",
    "sprites",
    "titled",
    "tried",
]
