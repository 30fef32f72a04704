"""Preprocessing of a kind of data as a torch module, which is exported with a detector."""

from autoenc.data.kinds.raw.bags import RawCounts
from autoenc.data.kinds.raw.columns import Category, RawColumns
from autoenc.data.kinds.raw.filters import RawImages
from autoenc.data.kinds.raw.inputs import Raw, RawInput, Scaled
from autoenc.data.kinds.raw.windows import RawWindows

__all__ = ["Category", "Raw", "RawColumns", "RawCounts", "RawImages", "RawInput", "RawWindows", "Scaled"]
