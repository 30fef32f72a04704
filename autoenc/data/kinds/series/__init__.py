"""Windows of recordings: series of one or several channels."""

from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.series.series import Series

__all__ = ["Channels", "Series"]
