"""Recordings: time series in tables, arrays and sound files, on a regular grid of time steps."""

from autoenc.data.readers.recordings.files import Reader, check, check_normal
from autoenc.data.readers.recordings.format import TABLES, Format
from autoenc.data.readers.recordings.steps import Recording

__all__ = ["TABLES", "Format", "Reader", "Recording", "check", "check_normal"]
