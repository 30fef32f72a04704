"""Pictures of models, codes and numbers: what TensorBoard shows and figures/ keeps."""

from autoenc.figures.canvas import new_figure, picture_grid, pixels, scatter
from autoenc.figures.of_codes import curves, sprites
from autoenc.figures.of_model import all_pictures, all_texts, dictionary

__all__ = [
    "all_pictures",
    "all_texts",
    "curves",
    "dictionary",
    "new_figure",
    "picture_grid",
    "pixels",
    "scatter",
    "sprites",
]
