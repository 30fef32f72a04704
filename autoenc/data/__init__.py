"""Data sets: the functions that a `_target_` in configs/data names; they return `Data`.

Libraries that only one of them needs (scikit-learn, torchvision) are imported where they are used: each takes a second
or more.
"""

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.sets.arrays import arrays
from autoenc.data.sets.defects import defects
from autoenc.data.sets.embedded import digits, patches
from autoenc.data.sets.image_folder import image_folder
from autoenc.data.sets.superposition import superposition
from autoenc.data.sets.synthetic import linear_gaussian, shapes, sparse_codes
from autoenc.data.sets.table import table
from autoenc.data.sets.texts import bag_of_words, text
from autoenc.data.sets.torchvision_images import torchvision_images
from autoenc.data.split import Split, hold_out

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
    "patches",
    "shapes",
    "sparse_codes",
    "superposition",
    "table",
    "text",
    "torchvision_images",
]
