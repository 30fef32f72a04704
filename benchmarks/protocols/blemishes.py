"""Choose the score of surface inspection on painted defects, each kind left out of training in turn.

    python benchmarks/protocols/blemishes.py --jobs 16 --output outputs/blemishes/choice.json

For each kind, experiment=defects_tiles is trained with the blemishes of all other kinds, and scores held-out good
images with and without defects of that kind, painted in another way than in training (painting.py). `--kinds brightness
texture geometry` leaves out whole groups, which is harder and three trainings. The test images have no say.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jobs
import numpy as np
from painting import PAINTERS, paint
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
SEED = 5
STEP = 4  # pixels between positions of the texture
TINY = 1e-6  # added to energies
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1)  # of the pixels, whose mean is the score of an image
MEASURED = ("combined", "shift", "memory", "texture8", "texture_memory", "all")  # maps whose pixels are measured


GROUPS = {
    "none": (),
    "brightness": ("bright", "dark", "large", "faint"),
    "texture": ("blur", "grain"),
    "geometry": ("turn", "stretch", "strip", "patch", "warp"),
}  # left out of training together


def halved(x: np.ndarray) -> np.ndarray:
    """Return the means of 2x2 pixels: (H, W) -> (H / 2, W / 2)."""
    height, width = (size // 2 for size in x.shape)
    found: np.ndarray = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))
    return found


def texture(x: np.ndarray, window: float) -> np.ndarray:
    """Return local features of an image every 4 pixels: (C, H, W) -> (10 C, H / 4, W / 4).

    The logarithms of the mean squared derivatives along both axes at three scales, their correlation, and the mean.
    """
    found = []
    for channel in x:
        for scale in (0.7, 1.5, 3.0):
            across, down = (ndimage.gaussian_filter(channel, scale, order) * scale for order in ((0, 1), (1, 0)))
            products = (halved(across * across), halved(down * down), halved(across * down))
            xx, yy, xy = (ndimage.gaussian_filter(p, window / 2)[::2, ::2] for p in products)
            found += [np.log(xx + TINY), np.log(yy + TINY), xy / np.sqrt(xx * yy + TINY**2)]
        found.append(ndimage.gaussian_filter(halved(channel), window / 4)[::2, ::2])
    return np.stack(found)


def brightness(raw: np.ndarray) -> np.ndarray:
    """Return the logarithm of the brightness of an image (1, H, W) in [0, 1] at three scales, without normalization."""
    small = halved(halved(raw[0]))
    return np.stack([np.log(ndimage.gaussian_filter(small, scale) + 0.02) for scale in (1, 2, 4)])


class Outlier:
    """The Mahalanobis distance of local features from those of good images.

    Args:
        features: (F, h, w) of good images. relative: to the median of the image.
    """

    def __init__(self, features: Sequence[np.ndarray], relative: bool):
        self.relative, random = relative, np.random.default_rng(0)
        rows = np.concatenate([random.permutation(self._rows(each))[:100] for each in features])
        self.mean = rows.mean(0)
        variances, directions = np.linalg.eigh(np.cov(rows - self.mean, rowvar=False))
        self.whiten = directions / np.sqrt(variances + 1e-4 * variances.max())

    def _rows(self, features: np.ndarray) -> np.ndarray:
        rows = features.reshape(len(features), -1).T
        return rows - np.median(rows, axis=0) if self.relative else rows

    def distance(self, features: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Return the distance of each pixel: (F, h, w) -> (H, W)."""
        found = np.sqrt(np.square((self._rows(features) - self.mean) @ self.whiten).mean(1))
        coarse = found.reshape(features.shape[1:])
        zoomed = ndimage.zoom(coarse, STEP, order=1, mode="nearest", grid_mode=True)[: size[0], : size[1]]
        return np.pad(zoomed, [(0, s - z) for s, z in zip(size, zoomed.shape, strict=True)], "edge")


class Candidates:
    """All maps of one run: those of scripts/detect.py and others."""

    def __init__(self, run: Any, good: Sequence[Path]):
        from autoenc.apps.anomaly.pixels.scores import Inspector
        from autoenc.data.sets.defects import read_image

        self.inspector, self.read = Inspector(run, good), lambda file: read_image(file, run.spec.kind)
        some = [self.features(self.read(file)) for file in good[::3]]
        self.outliers = {
            (name, relative): Outlier([each[name] for each in some], relative)
            for name in some[0]
            for relative in (False, True)
        }

    def features(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the local features of an image, of its residual, and of its brightness."""
        x = self.inspector.fed(image)
        residual = (x - self.inspector.reconstruct(x)).numpy()
        maps = {f"texture{w}": texture(x.numpy(), w) for w in (4, 8)}
        maps |= {f"residual{w}": texture(residual, w) for w in (4, 8)}
        return maps | {"brightness": brightness(image.astype(np.float32) / 255)}

    def maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return name -> (H, W)."""
        found = self.inspector.maps(image)
        for name, values in self.features(image).items():
            for relative in (False, True):
                distance = self.outliers[name, relative].distance(values, image.shape[1:])
                found[f"{name}{'_relative' if relative else ''}"] = distance.astype(np.float32)
        found["shift16"] = ndimage.gaussian_filter(found["shift"], 8)
        found["memory16"] = ndimage.gaussian_filter(found["memory"], 8)
        found["texture_memory"] = np.sqrt(found["memory"] * found["texture8_relative"])
        found["all"] = np.cbrt(found["shift"] * found["memory"] * found["texture8_relative"])
        found["all_residual"] = np.cbrt(found["shift"] * found["memory"] * found["residual8_relative"])
        return found


def numbers(maps: dict[str, np.ndarray]) -> dict[str, float]:
    """Return map:share -> mean of the highest values."""
    found: dict[str, float] = {}
    for name, values in maps.items():
        order = np.sort(values, axis=None)[::-1]
        found |= {f"{name}:{share}": float(order[: max(1, round(share * len(order)))].mean()) for share in SHARES}
        found[f"{name}:median"] = float(np.median(order))
    return found


def measure(kind: str, seed: int, overrides: Sequence[str], folder: Path, most: int | None, paintings: int) -> None:
    """Train without one kind or group (`none`: with all kinds), and write the scores of good and painted images."""
    from autoenc import load_run
    from autoenc.apps.anomaly.pixels import inspection
    from autoenc.apps.anomaly.pixels.metrics import pixel_numbers

    run_dir = folder / f"{kind}_{seed}"
    left_out = GROUPS.get(kind, (kind,))
    kinds = ",".join(name for name in PAINTERS if name not in left_out)
    settings = ["experiment=defects_tiles", f"seed={seed}", "trainer.device=cpu", *overrides]
    settings += [f"data.path={ROOT / 'data' / 'magnetic_tile'}", f"data.split_seed={seed}", f"noise.kinds=[{kinds}]"]
    started = time.perf_counter()
    trained = jobs.train(run_dir, settings)
    run = load_run(run_dir, "cpu")
    layout, random = inspection.layout_of(run), np.random.default_rng(SEED)
    candidates = Candidates(run, layout.train)
    files = layout.held_out[:most]
    good = [candidates.maps(candidates.read(file)) for file in files]
    result: dict[str, Any] = {"kind": kind, "seed": seed, "training_seconds": trained}
    result["good"] = [numbers(each) for each in good]
    good = [{name: each[name].astype(np.float16) for name in each if name.split("_")[0] in MEASURED} for each in good]
    for painted in left_out or PAINTERS:
        rows, maps, masks = [], list(good), [np.zeros(each["shift"].shape, bool) for each in good]
        for file in files * (1 if kind == "none" else paintings):
            image, mask = paint(painted, candidates.read(file), random)
            found = candidates.maps(image)
            rows.append(numbers(found))
            maps.append({name: found[name].astype(np.float16) for name in good[0]})
            masks.append(mask)
        pixels = {} if most else {name: pixel_numbers([each[name] for each in maps], masks) for name in good[0]}
        result.setdefault("painted", {})[painted] = {"scores": rows, "pixels": pixels}
    result["seconds"] = time.perf_counter() - started
    (folder / f"{run_dir.name}.json").write_text(json.dumps(result) + "\n")
    shutil.rmtree(run_dir)


def _to_median(name: str, row: dict[str, float]) -> float:
    return row[name] / (row[name.split(":")[0] + ":median"] + 1e-9)


def scores(result: dict[str, Any]) -> Iterator[tuple[str, Callable[[dict[str, float]], float]]]:
    """Yield the scores of an image: single ones, ratios to the median of the image, and largest of two or three.

    Those of several maps are standardized by the good images.
    """
    good = result["good"]
    singles = [name for name in good[0] if not name.endswith(":median")]
    for name in singles:
        yield name, itemgetter(name)
        yield f"{name}/median", partial(_to_median, name)
    level = {name: np.log([row[name] + 1e-9 for row in good]) for name in singles}

    def joined(how: Callable[[list[float]], float], names: Sequence[str], row: dict[str, float]) -> float:
        return how([float((np.log(row[n] + 1e-9) - level[n].mean()) / level[n].std()) for n in names])

    shift = [name for name in singles if name.startswith(("shift:", "combined:", "memory:"))]
    other = [name for name in singles if name.startswith(("texture", "residual", "brightness", "all", "shift16"))]
    for a in shift:
        for b in other:
            yield f"max({a}, {b})", partial(joined, max, (a, b))
            yield f"sum({a}, {b})", partial(joined, sum, (a, b))


def summary(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return score -> kind -> image AUROC on that kind, left out of training, mean over seeds."""
    from sklearn.metrics import roc_auc_score

    found: dict[str, dict[str, list[float]]] = {}
    for result in results:
        if result["kind"] == "none":
            continue
        for name, score in scores(result):
            good = [score(row) for row in result["good"]]
            for painted, measured in result["painted"].items():
                values = [*good, *map(score, measured["scores"])]
                truth = np.arange(len(values)) >= len(good)
                found.setdefault(name, {}).setdefault(painted, []).append(float(roc_auc_score(truth, values)))
    return {name: {kind: float(np.mean(v)) for kind, v in kinds.items()} for name, kinds in found.items()}


def main() -> None:
    """Run the jobs, print the scores with the highest mean, write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "blemishes" / "choice.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--kinds", nargs="+", choices=[*PAINTERS, *GROUPS], default=list(PAINTERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--paintings", type=int, default=1, help="of each held-out image")
    parser.add_argument("--most", type=int, help="held-out images, without measuring pixels; all by default")
    parser.add_argument("--overrides", nargs="*", default=[], help="for all jobs, such as trainer.steps=50")
    parser.add_argument("--job", metavar="KIND", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.output.resolve().with_suffix("")
    if options.job:
        measure(options.job, options.seeds[0], options.overrides, folder, options.most, options.paintings)
        return
    shared = ["--output", str(options.output), "--paintings", str(options.paintings)]
    shared += ["--most", str(options.most)] if options.most else []
    shared += ["--overrides", *options.overrides] if options.overrides else []
    wanted = {
        f"{kind}_{seed}": ["--job", kind, "--seeds", str(seed), *shared]
        for kind in options.kinds
        for seed in options.seeds
    }

    def described(result: dict[str, Any]) -> str:
        return f"training {result['training_seconds']:.0f} s, all {result['seconds']:.0f} s"

    results = jobs.run(__file__, wanted, folder, options.jobs, described)
    found = summary(results)
    kinds = sorted({kind for values in found.values() for kind in values}, key=list(PAINTERS).index)
    print(f"{'':<44} mean least {' '.join(f'{kind[:5]:>5}' for kind in kinds)}")
    order = sorted(found, key=lambda name: -float(np.mean(list(found[name].values()))))
    for name in [*order[:40], *(name for name in order if name in ("combined:0.001", "shift:0.001", "memory:0.001"))]:
        values = [found[name][kind] for kind in kinds]
        print(f"{name:<44} {np.mean(values):.3f} {min(values):.3f} {' '.join(f'{v:5.2f}' for v in values)}")
    options.output.write_text(json.dumps({"image_auroc": found, "results": results}) + "\n")
    if len(results) < len(wanted):
        raise SystemExit(f"{len(wanted) - len(results)} of {len(wanted)} jobs failed")


if __name__ == "__main__":
    main()
