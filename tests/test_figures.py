"""What pictures show, where it is computed for them."""

import numpy as np
import torch

from autoenc.data.kinds.kind import Column
from autoenc.figures import picture_grid
from autoenc.figures.of_model import column_fit


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
