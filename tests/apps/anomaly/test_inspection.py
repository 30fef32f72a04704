"""Inspection: the measures against cases computed by hand, and a pasted square that must be found."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autoenc import load_run
from autoenc.apps.anomaly.conformal import Quantile
from autoenc.apps.anomaly.pixels import inspection as defects
from autoenc.apps.anomaly.pixels.metrics import image_score, pixel_numbers
from autoenc.apps.anomaly.pixels.scores import (
    SCORES,
    Inspector,
    Memory,
    deviation,
    edge_distance,
    responses,
)
from autoenc.data.readers.inspection_folders import Part
from autoenc.errors import UserError

ROOT = Path(__file__).resolve().parents[3]


def stripes_image(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Stripes with noise."""
    stripes = 120 + 40 * np.sin(np.arange(width) * 2 * np.pi / 8 + random.uniform(0, 7))
    return (stripes + 6 * random.normal(size=(height, width))).clip(0, 255).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Striped images of different sizes; the defective ones have a flat, dark square of 10 pixels."""
    folder, random = tmp_path_factory.mktemp("stripes"), np.random.default_rng(0)
    for i in range(12):
        save(folder / f"train/good/{i}.png", stripes_image(random, 50 + i, 70 - i))
    for i in range(4):
        save(folder / f"test/good/{i}.png", stripes_image(random, 60, 55 + i))
        broken, mask = stripes_image(random, 52 + i, 66), np.zeros((52 + i, 66), np.uint8)
        place = slice(12 + 4 * i, 22 + 4 * i), slice(30, 40)
        broken[place], mask[place] = 60, 255
        save(folder / f"test/flat/{i}.png", broken)
        save(folder / f"ground_truth/flat/{i}_mask.png", mask)
    return folder


@pytest.fixture(scope="module")
def run_path(folder: Path, train_run: Callable[..., Path]) -> Path:
    data = ["data=defects", f"data.path={folder}", "data.size=16", "data.patches=60", "network=mlp"]
    return train_run("model=ae", "model.latent_dim=6", *data, "trainer.epochs=15", "optimizer.lr=0.003")


def test_a_perfect_map_has_1_and_a_constant_one_what_chance_has() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:6, 4:8] = mask[10:12, 20:29] = True
    assert pixel_numbers([mask.astype(float)], [mask]) == {"pixel_auroc": 1.0, "pro": 1.0}
    # The curve of chance is the diagonal: up to 0.3, its area is 0.3^2 / 2, and divided by 0.3, 0.15.
    assert pixel_numbers([np.ones((20, 30))], [mask]) == pytest.approx({"pixel_auroc": 0.5, "pro": 0.15})
    inverted = pixel_numbers([-mask.astype(float)], [mask])
    assert (inverted["pixel_auroc"], inverted["pro"]) == (0, 0)
    assert pixel_numbers([np.ones((4, 4))], [np.zeros((4, 4), bool)]) == {}


def test_pro_of_two_regions_by_hand() -> None:
    """20 good pixels, a region of 1 pixel and one of 4. Scores from high to low:

    9: the small region. 8: half of the large one. 7: 2 good pixels. 6: the rest of the large one. 5: 18 good pixels.
    The overlap is (1 + 1/2) / 2 = 0.75 at a rate of 0, on a line from there to 0.75 at 0.1, and 1 from 0.1 to 0.3.
    """
    values = np.full((5, 5), 5.0)
    mask = np.zeros((5, 5), bool)
    mask[0, 0], values[0, 0] = True, 9
    mask[3:5, 3:5] = True
    values[3, 3:5], values[4, 3:5] = 8, 6
    values[0, 3:5] = 7
    found = pixel_numbers([values], [mask])
    assert found["pro"] == pytest.approx((0.1 * 0.75 + 0.2 * 1) / 0.3)
    assert found["pixel_auroc"] == pytest.approx((3 * 20 + 2 * 18) / (5 * 20))
    alone = [(values[:, :3], mask[:, :3]), (values[:, 3:], mask[:, 3:])]  # two images are equivalent to one
    assert pixel_numbers(*map(list, zip(*alone, strict=True))) == pytest.approx(found)


def test_pro_stops_at_the_limit_between_two_thresholds() -> None:
    """10 good pixels, one defective pixel below 4 of them: the overlap jumps from 0 to 1 at a rate of 0.4."""
    values, mask = np.arange(11.0)[None], np.arange(11)[None] == 6
    assert pixel_numbers([values], [mask])["pro"] == 0
    assert pixel_numbers([values], [np.arange(11)[None] == 8])["pro"] == pytest.approx(0.1 / 0.3)


def test_pixel_auroc_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    mask = random.random((40, 50)) < 0.2
    values = (random.normal(size=mask.shape) + mask).round(1)  # with ties
    found = pixel_numbers([values], [mask])["pixel_auroc"]
    assert found == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()))


def test_windows_are_put_together_where_they_were(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(run_path, "cpu")
    inspector = Inspector(run, defects.layout_of(run).train)
    for height, width in ((16, 16), (17, 31), (45, 61), (48, 64)):
        x = torch.rand(1, height, width)
        made = inspector.reconstruct(x)
        assert made.shape == x.shape
        for batch_size in (1, 7):
            run.batch_size = batch_size
            assert torch.allclose(inspector.reconstruct(x), made, atol=1e-5), "the same whatever the batch"
    monkeypatch.setattr(run.model, "reconstruct", lambda batch: batch.x)
    assert torch.allclose(inspector.reconstruct(x), x, atol=1e-6), "a model that copies gives the image back"


def test_a_crack_counts_alike_at_any_angle_and_more_than_a_spot_as_wide() -> None:
    rows, columns = np.mgrid[:81, :81] - 40.0

    def highest(shape: np.ndarray) -> float:
        image = 0.3 * shape.astype(np.float32)[None]
        assert deviation(image, 0 * image).max() == pytest.approx(deviation(-image, 0 * image).max(), rel=0.01)
        return float(deviation(image, 0 * image).max())

    spot = highest(np.hypot(rows, columns) < 2)
    cracks = [
        highest((np.abs(rows * np.cos(a) - columns * np.sin(a)) < 2) & (np.hypot(rows, columns) < 15))
        for a in np.linspace(0, 3, 9)
    ]
    assert min(cracks) > 0.8 * max(cracks)
    assert min(cracks) > 2 * spot


def test_pixels_count_from_the_nearest_edge() -> None:
    assert edge_distance((4, 5), 9).tolist() == [[0] * 5, [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0] * 5]
    assert edge_distance((7, 7), 2).max() == 2


def test_a_rim_that_good_images_have_is_no_defect(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that makes everything black, the error is the image: 20, and 120 at 3 pixels along the edges."""
    monkeypatch.setattr(Inspector, "reconstruct", lambda self, x: torch.zeros_like(x))
    files = []
    for i in range(3):
        rimmed = np.full((50 + i, 60), 120, np.uint8)
        rimmed[3:-3, 3:-3] = 20
        save(tmp_path / f"{i}.png", rimmed)
        files.append(tmp_path / f"{i}.png")
    inspector = Inspector(load_run(run_path, "cpu"), files)
    found = inspector.maps(rimmed[None])["shift"]
    assert found.max() < 2, "the rim, 6 times as bright, is as usual as the rest"
    rimmed[20:30, 20:30] = 80
    found = inspector.maps(rimmed[None])["shift"]
    assert found[22:28, 22:28].min() > 2 * found[:3].max(), "less than the rim, but not usual here"


def test_memory_knows_what_it_was_shown_and_where_the_rest_is() -> None:
    random = np.random.default_rng(0)
    good = [random.normal(size=(1, 40, 50 + i)).astype(np.float32) for i in range(5)]
    memory = Memory(good, len(good))
    assert memory.distance(good[0]).max() < 1e-2, "all its places are kept"
    other = good[0].copy()
    other[0, 8:16, 30:38] += 4
    found = memory.distance(other)
    assert found.shape == (40, 50)
    top, left = np.unravel_index(found.argmax(), found.shape)
    assert (6 <= top < 18, 28 <= left < 40) == (True, True)
    assert found[:, :8].max() < 0.2 * found.max(), "far away, nothing has changed much"


def test_responses_are_derivatives_in_units_of_the_scale() -> None:
    """Of x^2 / 2: slope x and curvature 1 a pixel, times scale and its square; none along the other axis."""
    x = np.arange(80, dtype=np.float32) - 42
    found = responses(np.broadcast_to(x**2 / 2, (1, 80, 80)).copy())
    assert found.shape == (28, 20, 20)
    for i, scale in enumerate((1, 2, 4, 8)):
        smooth, across, down, across2, down2, mixed, _ = found[7 * i : 7 * i + 7, 10, 10]  # the pixel where x = 0
        assert smooth == pytest.approx(scale**2 / 2, rel=0.02)
        assert across2 == pytest.approx(scale**2, rel=0.02)
        assert [across, down, down2, mixed] == pytest.approx([0, 0, 0, 0], abs=0.05)
        assert found[7 * i + 1, 10, 11] == pytest.approx(4 * scale, rel=0.02)


def test_the_pasted_square_is_found(run_path: Path, folder: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call("detect", run_path)
    assert (code, err) == (0, "")
    assert "pro" in out
    found = json.loads((run_path / "detect/detect.json").read_text())
    for score in SCORES:
        numbers = found["numbers"][score]["all"]
        assert numbers["pixel_auroc"] > 0.9, score
        assert numbers["image_auroc"] > 0.85, score
    assert found["numbers"]["combined"]["all"]["image_auroc"] == 1
    assert found["numbers"]["combined"]["all"]["pro"] > 0.8
    assert (found["images"], found["above_threshold"] >= 4) == (8, True)
    rows = list(csv.DictReader((run_path / "detect/detect.csv").open()))
    assert [row["kind"] for row in rows] == ["flat"] * 4 + ["good"] * 4
    assert all(row["defective"] == "1" for row in rows[:4])
    limit = found["thresholds"]["combined"]
    assert all((float(row["combined"]) > limit) == (row["defective"] == "1") for row in rows)
    for i in range(4):
        with Image.open(run_path / f"detect/heat_flat_{i}_png.png") as heat:
            assert heat.size == (66, 52 + i), "of the size of the image"
            red = np.asarray(heat)[..., 0].astype(float)
        square = np.s_[14 + 4 * i : 20 + 4 * i, 32:38]
        assert red[square].mean() > red[:8].mean() + 20, "hot where the square is, dark as it is"
    assert (run_path / "detect/heatmap.png").exists()


def test_new_images_need_no_masks(run_path: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    random = np.random.default_rng(3)
    broken = stripes_image(random, 90, 40)
    broken[40:50, 10:20] = 60
    save(tmp_path / "in/b.png", broken)
    save(tmp_path / "in/a.png", np.repeat(stripes_image(random, 33, 47)[..., None], 3, -1))
    before = {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()}
    code, out, _ = call("detect", run_path, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert code == 0
    assert "highest: b.png" in out
    rows = list(csv.DictReader((tmp_path / "out/detect.csv").open()))
    assert [(row["image"], row["defective"]) for row in rows][1] == ("b.png", "1")
    assert json.loads((tmp_path / "out/detect.json").read_text())["numbers"] == {}
    with Image.open(tmp_path / "out/heat_b_png.png") as heat:
        assert heat.size == (40, 90)
    code, out, _ = call("detect", run_path, "--input", tmp_path / "in/b.png")
    assert (code, "1 of 1 image above the threshold" in out) == (0, True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "in").iterdir()} == before


def test_images_without_a_mask_do_not_count_for_pixels() -> None:
    random = np.random.default_rng(0)
    maps = [random.random((20, 20)) for _ in range(4)]
    mask = np.zeros((20, 20), bool)
    mask[4:9, 5:12] = True
    kinds, scores, none = np.array(["good", "hole", "hole", "hole"]), np.arange(4.0), np.zeros((20, 20), bool)
    found = defects.measured(kinds, scores, maps, [none, mask, None, None])["all"]
    assert found == {"image_auroc": 1.0} | pixel_numbers(maps[:2], [none, mask])
    assert defects.measured(kinds, scores, maps, [none, None, None, None])["all"] == {"image_auroc": 1.0}


def test_new_images_are_named_by_their_paths(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for name in ("b.png", "sub/b.png", "._b.png", "sub/deep/c.png"):
        save(tmp_path / name, stripes_image(random, 20, 20))
    assert [part.name for part in defects.new_parts(tmp_path)] == ["b.png", "sub/b.png", "sub/deep/c.png"]
    assert [part.name for part in defects.new_parts(tmp_path / "sub/b.png")] == ["b.png"]


def test_the_threshold_is_a_quantile_of_held_out_good_images(run_path: Path) -> None:
    run = load_run(run_path, "cpu")
    layout = defects.layout_of(run)
    parts = [Part(file, "good") for file in layout.held_out]
    result = defects.inspect(run, parts, layout, score="error", rule=Quantile(0.5))
    values = np.sort(result.scores["error"])
    assert result.thresholds["error"] == values[int(np.ceil(len(values) / 2)) - 1]
    assert result.alarms.sum() == len(values) // 2
    assert [m.shape for m in result.maps] == [Image.open(file).size[::-1] for file in layout.held_out]
    assert result.numbers == {}


def test_what_cannot_be_inspected_is_one_line(
    run_path: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    save(tmp_path / "small.png", np.zeros((12, 40), np.uint8))
    (tmp_path / "text.png").write_text("no")
    (tmp_path / "empty").mkdir()
    for args, message in (
        (("--input", tmp_path / "small.png"), f"{tmp_path}/small.png: has 40x12 pixels, smaller than"),
        (("--input", tmp_path / "text.png"), f"{tmp_path}/text.png: cannot be read as an image ("),
        (("--input", tmp_path / "empty"), f"{tmp_path}/empty: has no images"),
        (("--input", tmp_path / "none"), f"{tmp_path}/none: no such file or folder"),
        (("--anomaly", "flat"), "--anomaly: is not for runs on data=defects"),
        (("--follow", "-"), f"--follow -: is for recordings, and {run_path} scores no time steps"),
        (("--feedback", "a.csv"), "--feedback a.csv: is for scores of rows"),
        (("--alarm-rate", "0.001"), "--alarm-rate 0.001: needs 999 calibration rows, found "),
        ((run_path,), f"{run_path}: is on data=defects, whose runs are inspected one by one"),
    ):
        code, _, err = call("detect", run_path, *args)
        assert code == 2
        assert err.startswith(message)
        assert err.count("\n") == 1
        assert "calibrate" not in err, "which is refused for such runs"
    run = load_run(run_path, "cpu")
    with pytest.raises(UserError, match=r"--score knn: .*error, ssim"):
        defects.inspect(run, [], defects.layout_of(run), score="knn")


def test_an_image_counts_by_the_highest_thousandth_of_its_pixels() -> None:
    values = np.random.default_rng(0).permutation(5_000).reshape(50, 100).astype(np.float32)
    assert image_score(values) == np.mean([4_999, 4_998, 4_997, 4_996, 4_995])
    assert image_score(values[:2, :5]) == values[:2, :5].max(), "one pixel at least"


def test_blemishes_change_a_part_of_some_images_within_the_range() -> None:
    from autoenc.noise import Blemishes

    x = torch.full((400, 1, 32, 32), 0.5)
    noisy = Blemishes((1, 32, 32), 0.0, 1.0, p=0.5, kinds=["dark"])(x)
    changed = (noisy != x).flatten(1).float().mean(1)
    assert (noisy.min() >= 0, noisy.max() <= 0.5) == (True, True)
    assert 0.25 < (changed > 0).float().mean() < 0.5, "fields without a blob count as drawn"
    assert changed.mean() < 0.1
    assert (x == 0.5).all()
    assert Blemishes((1, 32, 32), 0.0, 1.0, p=1.0, kinds=["bright"])(x).min() >= 0.5
    with pytest.raises(UserError, match="blemishes are for images"):
        Blemishes((6,), 0.0, 1.0)
