"""Detection of defects in images of any size, by the scores of their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from PIL import Image
from rich.table import Table

from autoenc.apps.anomaly.pixels import inspection
from autoenc.apps.anomaly.pixels.inspection import Inspected
from autoenc.apps.anomaly.pixels.scores import BEST
from autoenc.apps.anomaly.way import NO_RECORDINGS, NO_ROWS, Options, Way
from autoenc.apps.outputs import Outputs
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.screen import method_table, track

FOLDERS = "is not for runs on data=defects, where the folders of the images are the labels"


class Pixels(Way[Inspected]):
    """Defects in the test images of a run on data=defects, or in new images."""

    noun: ClassVar[str] = "images"
    refused: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("labels", "anomaly", "resize"), FOLDERS),
        "calibrate": "is not for data=defects, where held-out images calibrate",
        **NO_RECORDINGS,
        **NO_ROWS,
    }
    unmeasured: ClassVar[str] = "measured on whole images by scripts/detect.py"

    def __init__(self, run: Run, options: Options):
        super().__init__(run, options)
        self.layout = inspection.layout_of(run)
        self.parts = inspection.new_parts(options.input) if options.input else list(self.layout.test)
        options.rule.check_rows(len(self.layout.held_out), inspection.HELD_OUT, inspection.REMEDY)

    @classmethod
    def default(cls, run: Run) -> str:
        return BEST

    def detect(self) -> Inspected:
        options = self.options
        return inspection.inspect(
            self.run, self.parts, self.layout, options.score, options.rule, lambda files: track(files, "images")
        )

    def outputs(self) -> tuple[Outputs | None, str]:
        options = self.options
        written = options.output or not options.input
        return Outputs(self.run, "detect", options.output, options.force) if written else None, ""

    def write(self, out: Outputs, prefix: str, result: Inspected) -> None:
        out.csv("detect", *result.table(self.parts))
        out.json(result.summary())
        for part, values in zip(self.parts, result.maps, strict=True):
            heat = inspection.overlay(self.run, part, values, result.thresholds[result.score])
            path = out.path(f"heat_{part.name.replace('.', '_').replace('/', '_')}.png")
            while path.exists():  # a_b/c.png and a/b_c.png
                path = path.with_stem(f"{path.stem}_")
            Image.fromarray(heat).save(path)
        out.figure("heatmap", inspection.contact_sheet(self.run, result, self.parts))

    def tables(self, result: Inspected) -> Iterable[Table]:
        for kind in next(iter(result.numbers.values()), {}):
            yield method_table(f"defects: {kind}", {name: each[kind] for name, each in result.numbers.items()})

    def highest(self, result: Inspected) -> Iterable[str]:
        yield result.highest([part.name for part in self.parts])
        yield from () if self.options.input else self.layout.notes

    def stored(self, out: Outputs | None) -> str:
        if out is None:
            return "no files are written; --output FOLDER stores scores and heat maps"
        return f"scores and heat maps: {out.folder}/"

    def classes(self) -> list[str]:
        raise UserError(f"{self.run.path}: is on data=defects, whose runs are inspected one by one")


WAY = Pixels
