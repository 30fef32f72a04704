"""The data of a finished run: its training files where they can be read, and reference.npz where they cannot."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from autoenc import build, reference
from autoenc.core import UNLABELLED, Autoencoder
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.split import Split
from autoenc.errors import DataChanged, DataError, UserError
from autoenc.files import check_inside
from autoenc.reference import Reference
from autoenc.training.rundir import changed_parts, located


def unusable(error: UserError) -> str:
    """Return why training files are not used, in a few words."""
    return "have changed since" if isinstance(error, DataChanged) else "cannot be read"


class RunData:
    """The rows of a run that has ended; the base class of `loading.Run`.

    Args:
        fingerprint: of the training split; None: not known. checksums: of the rest, see `Data.checksums`.
    """

    def __init__(
        self,
        path: Path,
        model: Autoencoder,
        config: dict[str, Any],
        spec: DataSpec,
        device: torch.device,
        fingerprint: int | None,
        checksums: Mapping[str, int] | None = None,
    ):
        self.path, self.model, self.config, self.spec, self.device = path, model, config, spec, device
        self.fingerprint, self.checksums = fingerprint, checksums
        self.batch_size: int = config["trainer"]["eval_batch_size"]

    @property
    def latent_dim(self) -> int:
        """K, the number of values in a code."""
        return math.prod(self.model.bottleneck.latent_shape)

    @cached_property
    def data(self) -> Data:
        """The data set that the run was trained on, split as in training.

        Raises:
            UserError: its files cannot be read. DataChanged: its rows are not those of the checkpoint. Labels that have
                changed are named in a warning: rows may be labelled later.
        """
        data = build.build_data(self.config | {"data": located(self.config["data"], self.path)}, self.spec.kind)
        source = self.config["data"].get("path")
        where = f"data.path={source}" if source else f"data={data.spec.name}"
        changed = changed_parts({"checksums": self.checksums}, data.checksums())
        if self.fingerprint is not None and data.train.fingerprint() != self.fingerprint:
            changed = ["rows"]
        if changed and changed != ["labels"]:
            raise DataChanged(
                f"{where}: the {changed[0]} have changed since {self.path} was trained, and its test split may contain "
                "rows of the training split; restore the data, or score new data with --input"
            )
        if changed:
            warnings.warn(f"{where}: the labels have changed since {self.path} was trained", stacklevel=3)
        return data

    def normal_test(self) -> Split:
        """Return the test examples that are not of classes left out of training; all if none is."""
        test, spec = self.data.test, self.spec
        if test.y is None or not spec.anomalies:
            return test
        left_out = torch.tensor([spec.classes.index(name) for name in spec.anomalies])
        kept = (~torch.isin(test.y, left_out)).nonzero().squeeze(1)
        return test.subset(kept) if len(kept) else test

    def known_test(self) -> Split:
        """Return the test examples of classes that training rows are labelled with; all where there are no labels.

        What is learned from labels cannot tell other classes: those left out of training, and rows without a label.
        """
        test, y = self.data.test, self.data.train.y
        if test.y is None or y is None:
            return test
        known = torch.isin(test.y, y[y != UNLABELLED].to(test.y.device))
        return test if known.all() else test.subset(known.nonzero().squeeze(1))

    @cached_property
    def reference(self) -> Reference:
        """reference.npz. Runs of version 0.1 get it on the first call, from their training data.

        Raises:
            DataError: the file is damaged, or there is none and the training data cannot be read.
        """
        path = self.path / reference.FILE
        if path.exists():
            return reference.load(path, self.spec.kind, self.latent_dim)
        try:
            data = self.data
        except UserError as error:
            raise DataError(
                f"{self.path}: has no {reference.FILE}, and its training data cannot be read ({error})"
            ) from None
        computed = reference.compute(self.model, data, self.batch_size, self.device)
        with contextlib.suppress(OSError, DataError):  # without write permission, or with links
            check_inside(self.path)
            reference.save(computed, path)
        return computed

    def reference_rows(self, enough: int | None = None) -> Split:
        """Return the reference rows as the model is fed them, or the part of them that is stored in reference.npz.

        Args:
            enough: number of rows that are needed; None: all. If fewer are stored, they are read from the training
                files; if these cannot be read, the stored rows are returned, with a warning.
        """
        stored, count = self.reference.rows, len(self.reference)
        if len(stored) >= min(count if enough is None else enough, count):
            return stored
        return self._read_reference_rows

    @cached_property
    def _read_reference_rows(self) -> Split:
        """The reference rows from the training files, or those that are stored, with one warning."""
        try:
            return self.data.train.subset(torch.from_numpy(self.reference.index))
        except UserError as error:
            stored, count = len(self.reference.rows), len(self.reference)
            why = f"the training files {unusable(error)}; {stored:,} of {count:,} reference rows are used"
            return self._stored_rows(error, why, stacklevel=5)  # cached_property has a frame of its own

    @cached_property
    def examples(self) -> Split:
        """The test split, or the stored reference rows with a warning if its files cannot be read."""
        try:
            return self.data.test
        except DataChanged:
            raise
        except UserError as error:
            last = len(self.reference.rows) - 1
            why = f"the test split cannot be read; examples 0 to {last} are training rows"
            return self._stored_rows(error, why, stacklevel=4)  # cached_property has a frame of its own

    def _stored_rows(self, error: UserError, why: str, stacklevel: int) -> Split:
        """Return the rows in reference.npz in place of files, with a warning; raise the error if there are none."""
        stored = self.reference.rows
        if len(stored) == 0:
            raise error
        warnings.warn(f"{self.path}: {why}", stacklevel=stacklevel)
        return stored
