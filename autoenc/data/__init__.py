"""Data sets: the functions that a `_target_` in configs/data names; they return `Data`.

Imported on first use, as are the libraries that only one of them needs: each takes a second or more, and checking the
paths of a config needs none.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoenc.data.dataset import Data, DataSpec
    from autoenc.data.sets.arrays import arrays
    from autoenc.data.sets.defects import defects
    from autoenc.data.sets.embedded import digits, patches
    from autoenc.data.sets.image_folder import image_folder
    from autoenc.data.sets.series.oscillations import oscillations
    from autoenc.data.sets.series.recordings import series
    from autoenc.data.sets.superposition import superposition
    from autoenc.data.sets.synthetic import linear_gaussian, shapes, sparse_codes
    from autoenc.data.sets.table import table
    from autoenc.data.sets.texts import bag_of_words, text
    from autoenc.data.sets.torchvision_images import torchvision_images
    from autoenc.data.split import Split, hold_out

HOMES = {
    **dict.fromkeys(("Data", "DataSpec"), "dataset"),
    **dict.fromkeys(("Split", "hold_out"), "split"),
    **dict.fromkeys(("digits", "patches"), "sets.embedded"),
    **dict.fromkeys(("linear_gaussian", "shapes", "sparse_codes"), "sets.synthetic"),
    **dict.fromkeys(("bag_of_words", "text"), "sets.texts"),
    **{name: f"sets.{name}" for name in ("arrays", "defects", "image_folder", "superposition", "table")},
    "series": "sets.series.recordings",
    "oscillations": "sets.series.oscillations",
    "torchvision_images": "sets.torchvision_images",
}
DETECTION = {"defects": "pixels"}  # data sets with another way to detect anomalies than their kind, see Kind.detection
__all__ = [
    "Data",
    "DataSpec",
    "Split",
    "arrays",
    "bag_of_words",
    "defects",
    "digits",
    "hold_out",
    "image_folder",
    "linear_gaussian",
    "oscillations",
    "patches",
    "series",
    "shapes",
    "sparse_codes",
    "superposition",
    "table",
    "text",
    "torchvision_images",
]


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(import_module(f"autoenc.data.{HOMES[name]}"), name)
    raise AttributeError(f"module 'autoenc.data' has no attribute '{name}'")
