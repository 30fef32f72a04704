"""Data sets: functions that a `_target_` in configs/data names and that return `spec.Data`. See spec.py.

What only one of them needs (scikit-learn, torchvision) is imported where it is used: each costs a second or more.
"""

from autoenc.data.defects import defects
from autoenc.data.embedded import digits, patches
from autoenc.data.files import arrays
from autoenc.data.image_folder import image_folder
from autoenc.data.images import torchvision_images
from autoenc.data.spec import Data, DataSpec, Split, hold_out
from autoenc.data.synthetic import linear_gaussian, shapes, sparse_codes
from autoenc.data.table import table
from autoenc.data.text import bag_of_words, text

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
    "table",
    "text",
    "torchvision_images",
]
