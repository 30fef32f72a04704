"""Results: whole or not at all, never over older ones unasked."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autoenc import load_run
from autoenc.apps.outputs import Outputs
from autoenc.errors import UserError


def test_arrows_and_units_are_explained_once_below_tables(vae_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Outputs(load_run(vae_run, "cpu"), "test")
    out.table("first", {"ae": {"psnr": 1.0}, "vae": {"psnr": 2.0}})
    out.table("second", {"ae": {"mse": 1.0, "psnr": 2.0}})
    said = capsys.readouterr().out
    for sign in ("↑ higher is better", "↓ lower is better", "[dB] decibels"):
        assert said.count(sign) == 1


def write(out: Outputs, value: float = 1.0) -> None:
    out.json({"value": value, "nothing": float("nan")})
    out.npz("arrays", z=np.arange(3))
    out.csv("rows", ["a", "b"], [(1, "x,y")])
    out.figure("figure", np.zeros((4, 6, 3), np.uint8))


def test_files_and_figures_arrive_together(vae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(vae_run)
    run = load_run(path, "cpu")
    with Outputs(run, "test") as out:
        write(out)
        assert not (path / "test").exists(), "nothing before the end"
    assert sorted(p.name for p in (path / "test").iterdir()) == ["arrays.npz", "figure.png", "rows.csv", "test.json"]
    assert json.loads((path / "test" / "test.json").read_text()) == {"value": 1.0, "nothing": None}
    assert (path / "test" / "rows.csv").read_text() == 'a,b\n1,"x,y"\n'
    events = EventAccumulator(str(path), size_guidance={"images": 0})
    events.Reload()
    assert "view/test/figure" in events.Tags()["images"]
    assert "view/reconstruction" in events.Tags()["images"], "those of the training stay"


def test_images_keep_their_folders_and_none_replaces_another(
    ae_run: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    names = ["a.png", "a.jpg", "b/a.png", "b/c/a.tif", "examples.png", "3"]
    images = np.arange(len(names))[:, None, None, None] / np.full((1, 1, 8, 8), 10.0)
    for channels in (1, 2, 4):
        with Outputs(load_run(ae_run, "cpu"), "test", tmp_path / str(channels)) as out:
            out.figure("examples", np.zeros((4, 6, 3), np.uint8))
            out.images(names, np.repeat(images, channels, 1))
        written = ["a.png", "a.jpg.png", "b/a.png", "b/c/a.png", "examples.png.png", "image_00003.png"]
        for i, name in enumerate(written):
            with Image.open(tmp_path / str(channels) / name) as image:
                assert image.mode == ("L" if channels == 1 else "RGB")
                assert np.abs(np.asarray(image) - 25.5 * i).max() < 1
    for i, name in enumerate(names[:4]):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / "in" / name)
    for force in ([], ["--force"]):
        code, _, _ = call("denoise", ae_run, "--input", tmp_path / "in", "--output", tmp_path / "out", *force)
        assert code == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert found == {"a.png", "a.png.png", "b/a.png", "b/c/a.png", "examples.png"}, "a.jpg is the first"


def test_older_results_stay_without_force(vae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(vae_run), "cpu")
    with Outputs(run, "test") as out:
        write(out, 1.0)
    with pytest.raises(UserError, match=r"test.json: already exists; --force"):
        Outputs(run, "test")
    with Outputs(run, "test", force=True) as out:
        write(out, 2.0)
    assert json.loads((run.path / "test" / "test.json").read_text())["value"] == 2.0


def test_an_error_leaves_nothing(vae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(vae_run), "cpu")
    before = sorted(run.path.rglob("*"))

    def interrupted() -> None:
        with Outputs(run, "test") as out:
            write(out)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(run.path.rglob("*")) == before


def test_a_file_of_another_kind_in_the_folder_is_not_overwritten(vae_run: Path, tmp_path: Path) -> None:
    run = load_run(vae_run, "cpu")
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(UserError, match=r"rows.csv: already exists; --force"), Outputs(run, "test", tmp_path) as out:
        write(out)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]
    assert (tmp_path / "rows.csv").read_text() == "mine"
    with pytest.raises(UserError, match="is a file; name a folder"):
        Outputs(run, "test", tmp_path / "rows.csv")


def test_images_get_names_that_sort(vae_run: Path, tmp_path: Path) -> None:
    with Outputs(load_run(vae_run, "cpu"), "test", tmp_path / "out") as out:
        out.images(["7", "scan.tif"], np.array([[[[0.0, 2.0]]], [[[-1.0, 0.5]]]]))
    from PIL import Image

    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["image_00007.png", "scan.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "image_00007.png")).tolist() == [[0, 255]]


def test_the_projector_keeps_what_was_there(vae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(vae_run), "cpu")
    split = run.data.test.subset(slice(0, 30))
    events = sorted(run.path.glob("events.*"))
    for _ in range(2):
        with Outputs(run, "project", force=True) as out:
            out.embedding(run.codes(split), [str(i) for i in range(30)], split)
    assert sorted(run.path.glob("events.*")) == events, "the projector needs no events"
    text = (run.path / "projector_config.pbtxt").read_text()
    assert text.count("tensor_name") == 2
    assert '"codes:00000"' in text
    assert '"project:00000"' in text


def test_lines_of_text_have_no_control_characters(ae_run: Path, tmp_path: Path) -> None:
    with Outputs(load_run(ae_run, "cpu"), "test", tmp_path / "out") as out:
        out.text("lines", ["\x1b[31mred", "two\nlines"])
    assert (tmp_path / "out" / "lines.txt").read_text() == "\\x1b[31mred\ntwo\\nlines\n"


def test_lines_below_tables_are_explained_once_and_whole(vae_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Outputs(load_run(vae_run, "cpu"), "test")
    for metrics in ({"psnr": 1.0}, {"kl": 1.0}, {"kl": 1.0, "psnr": 2.0, "zeros": 0.5}):
        out.table("table", {"vae": metrics, "ae": metrics})
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in said if ": " in line or " is better" in line] == ["↑", "kl:", "zeros:"]
