"""Data sets: functions that a `_target_` in configs/data names and that return `spec.Data`. See spec.py.

What only one of them needs (scikit-learn, torchvision) is imported where it is used: each costs a second or more.
"""

from autoenc.data.embedded import digits, patches
from autoenc.data.files import arrays
from autoenc.data.images import torchvision_images
from autoenc.data.spec import Data, DataSpec, Split, hold_out

__all__ = ["Data", "DataSpec", "Split", "arrays", "digits", "hold_out", "patches", "torchvision_images"]
