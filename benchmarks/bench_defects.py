"""Measure the inspection of magnetic tiles (data/magnetic_tile): part of `make bench`; `--only preset` measures one.

Each method is trained with 3 seeds. Which score decides was chosen on the first table of each: defects painted on good
images that are held out, where the test images have no say. Figures: outputs/bench/results_defects.json.
"""

from __future__ import annotations

import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from bench import OUT, ROOT, figure, main, train

sys.path.insert(0, str(Path(__file__).parent / "protocols"))
from painting import PAINTERS, paint

FOLDER = ROOT / "data" / "magnetic_tile"
SEEDS = range(3)
NUMBERS = ("image_auroc", "pixel_auroc", "pro")
PAINTER = 5  # the seed of the painted defects


def synthetic(run: Any) -> dict[str, dict[str, float]]:
    """Return score -> image_auroc, pixel_auroc and pro of held-out good images, each with and without a painted defect.

    The kinds of defect take turns.
    """
    from autoenc.apps.anomaly.pixels import inspection as defects
    from autoenc.apps.anomaly.pixels.metrics import image_score
    from autoenc.apps.anomaly.pixels.scores import SCORES, Inspector
    from autoenc.data.sets.defects import read_image

    layout, random = defects.layout_of(run), np.random.default_rng(PAINTER)
    inspector = Inspector(run, layout.train)
    kinds, maps, masks = [], [], []
    for file, painter in zip(layout.held_out, cycle(PAINTERS), strict=False):
        image = read_image(file, run.spec.kind)
        for kind in ("good", "painted"):
            mask = np.zeros(image.shape[1:], bool)
            if kind == "painted":
                image, mask = paint(painter, image, random)
            kinds.append(kind)
            maps.append(inspector.maps(image))
            masks.append(mask)
    found = {}
    for name in SCORES:
        values = [each[name] for each in maps]
        scores = np.array([image_score(each) for each in values])
        found[name] = defects.measured(np.array(kinds), scores, values, masks)["all"]
    return found


def measure(name: str, *overrides: str) -> None:
    """Train, choose, test; means over the seeds."""
    from autoenc import load_run
    from autoenc.apps.anomaly.pixels import inspection as defects

    chosen: list[dict[str, dict[str, float]]] = []
    tested: list[dict[str, dict[str, dict[str, float]]]] = []
    for seed in SEEDS:
        seconds = train(f"{name}{seed}", *overrides, f"seed={seed}")["wall"]
        run = load_run(OUT / f"{name}{seed}", "cpu")
        layout = defects.layout_of(run)
        chosen.append(synthetic(run))
        tested.append(defects.inspect(run, layout.test, layout).numbers)
        print(f"  seed {seed}: trained in {seconds:.0f} s", file=sys.stderr)
    for score in chosen[0]:
        for number in NUMBERS:
            figure(f"{score}, painted: {number}", float(np.mean([found[score][number] for found in chosen])))
    for score in tested[0]:
        for kind in tested[0][score]:
            for number in NUMBERS:
                values = [found[score][kind][number] for found in tested]
                figure(
                    f"{score}, {kind}: {number} (standard deviation {np.std(values, ddof=1):.3f})",
                    float(np.mean(values)),
                )


def plain() -> None:
    """A convolutional autoencoder on patches of pixels."""
    measure("defects_plain", "data=defects", f"data.path={FOLDER}", "model=ae")


def preset() -> None:
    """experiment=defects_tiles: contrast, painted blemishes, memory of a filter bank."""
    measure("defects_preset", "experiment=defects_tiles", f"data.path={FOLDER}")


if __name__ == "__main__":
    if not FOLDER.is_dir():
        raise SystemExit(f"{FOLDER}: no such folder")
    main(__doc__, {"plain": plain, "preset": preset}, "results_defects.json")
