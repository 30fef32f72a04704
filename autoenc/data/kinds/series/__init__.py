"""Windows of recordings: series of one or several channels, and their spectrograms."""

from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.series.series import Series
from autoenc.data.kinds.series.spectra import Spectra
from autoenc.data.kinds.series.spectrogram import Spectrogram

__all__ = ["Channels", "Series", "Spectra", "Spectrogram"]
