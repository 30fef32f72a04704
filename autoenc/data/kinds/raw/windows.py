"""Windows of recordings as a model is fed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from autoenc.data.kinds.raw.inputs import Raw, RawInput

if TYPE_CHECKING:
    from autoenc.data.kinds.series.channels import Channels


class RawWindows(Raw):
    """Windows (N, lead + W, C) in the units of the files -> (N, C, W)."""

    def __init__(self, given: RawInput, channels: Channels):
        super().__init__(given)
        self.channels = channels

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.channels.forward(tensors[0])
