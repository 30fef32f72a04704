"""Images that remain files: decoded by worker processes in each epoch, batches ahead of where they are needed."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from autoenc.data.readers.images import ImageFormat, decode_files
from autoenc.data.storage.workers import Pool
from autoenc.errors import DataError

TASK, TASK_BYTES = 64, 2**24  # images, and bytes of pixels, per task of a worker
FEW = 16  # images that are decoded in this process


class ImageFileRows:
    """Image files as rows (C, H, W) uint8, decoded on demand. Implements `split.Rows`.

    Args:
        files: paths. crc: CRC-32 of the decoded rows of all of them, in this order. index: the selected files.
    """

    def __init__(
        self, files: Sequence[str], image_format: ImageFormat, pool: Pool, crc: int, index: Tensor | None = None
    ):
        self.files, self.format, self.pool, self._crc = files, image_format, pool, crc
        self._index = torch.arange(len(files)) if index is None else index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return next(self.fetch([index]))

    def select(self, index: Tensor | slice) -> ImageFileRows:
        """Return a view of the rows at `index` (indices, a mask or a slice), without decoding."""
        return ImageFileRows(self.files, self.format, self.pool, self._crc, self._index[index])

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """Yield self[index] for each index, in order; the workers decode the next ones meanwhile.

        Raises:
            DataError: a file can no longer be decoded.
        """
        batches = [self._index[index] for index in indexes]
        step = task_size(self.format)
        tasks = ([self.files[i] for i in rows.tolist()] for batch in batches for rows in batch.split(step))
        pool = self.pool if sum(map(len, batches)) > FEW else Pool(0)
        with contextlib.closing(pool.map(partial(decode_files, image_format=self.format), tasks)) as decoded:
            for batch in batches:
                parts = []
                for rows in batch.split(step):
                    pixels, errors = next(decoded)
                    for i, why in errors.items():
                        raise DataError(f"{self.files[rows[i]]}: could be decoded before and no longer can ({why})")
                    parts.append(torch.from_numpy(pixels))
                yield parts[0] if len(parts) == 1 else torch.cat(parts)

    def fingerprint(self) -> int:
        """Return the CRC-32 of the rows of all files and of the selection."""
        return zlib.crc32(self._index.numpy().data, self._crc)


def task_size(image_format: ImageFormat) -> int:
    """Return the number of images per task of a worker."""
    return max(1, min(TASK, TASK_BYTES // image_format.nbytes))
