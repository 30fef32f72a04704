"""Measure the inspection of magnetic tiles (data/magnetic_tile): part of `make bench`; `--only preset` measures one.

Each method is trained with 3 seeds. Which score decides was chosen on the first table of each: defects painted on good
images that are held out, where the test images have no say. Figures: outputs/bench/results_defects.json.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from bench import OUT, ROOT, figure, main, train

FOLDER = ROOT / "data" / "magnetic_tile"
SEEDS = range(3)
NUMBERS = ("image_auroc", "pixel_auroc", "pro")
PAINTER = 5  # the seed of the painted defects


def painted(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (1, H, W) with a dark defect, and its mask (H, W): half of them ragged ellipses, half random walks.

    Drawn in another way than the noise that the preset is trained with.
    """
    from scipy import ndimage

    height, width = image.shape[1:]
    mask = np.zeros((height, width), bool)
    while mask.sum() < 8:
        y, x, angle = random.uniform(0.05, 0.95) * height, random.uniform(0.05, 0.95) * width, random.uniform(0, 6.28)
        if random.random() < 0.5:
            rows, columns = np.mgrid[:height, :width]
            along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
            across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
            ragged = ndimage.gaussian_filter(random.normal(size=mask.shape), 3)
            shape = (along / random.uniform(3, 9)) ** 2 + (across / random.uniform(2, 6)) ** 2
            mask = shape < 1 + 0.4 * ragged / ragged.std()
        else:
            for _ in range(int(random.uniform(20, 90))):
                if 0 <= y < height and 0 <= x < width:
                    mask[int(y), int(x)] = True
                angle += 0.25 * random.normal()
                y, x = y + np.sin(angle), x + np.cos(angle)
            if random.random() < 0.7:
                mask = ndimage.binary_dilation(mask, iterations=int(random.integers(1, 3)))
    soft = (1.3 * ndimage.gaussian_filter(mask.astype(float), 0.7)).clip(0, 1)
    return (image * (1 - random.uniform(0.25, 0.7) * soft)).astype(np.uint8), mask


def synthetic(run: Any) -> dict[str, dict[str, float]]:
    """score -> image_auroc, pixel_auroc and pro of painted defects, on the held-out good images with and without."""
    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.anomaly.defect_metrics import image_score
    from autoenc.apps.anomaly.defect_scores import SCORES, Inspector
    from autoenc.data.sets.defects import read_image

    layout, random = defects.layout_of(run), np.random.default_rng(PAINTER)
    inspector = Inspector(run, layout.train)
    kinds, maps, masks = [], [], []
    for file in layout.held_out:
        image = read_image(file, run.spec.kind)
        for kind in ("good", "painted"):
            mask = np.zeros(image.shape[1:], bool)
            if kind == "painted":
                image, mask = painted(image, random)
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
    from autoenc.apps.anomaly import inspection as defects

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
