"""The scripts as people call them: what they print, write and refuse."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoenc import load_run

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if not path.stem.startswith("bench"))

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_answers_without_importing_torch(name: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{name}.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path('scripts/{name}.py', run_name='__main__')\n"
        "finally:\n"
        "    assert not {'torch', 'sklearn', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert f"python scripts/{name}.py" in done.stdout, "an example"
    assert "--json" in done.stdout


@pytest.mark.parametrize("name", [s for s in SCRIPTS if s not in ("compare", "detect", "runs", "search")])
def test_a_path_that_is_no_run_is_one_line_and_exit_code_2(call: Call, name: str, tmp_path: Path) -> None:
    code, out, err = call(name, tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert err == f"{tmp_path / 'nothing'}: no such directory\n"
    code, _, err = call(name, tmp_path)
    assert code == 2
    assert err.startswith(f"{tmp_path}: ")
    assert "run.json" in err
    assert err.count("\n") == 1


def test_wrong_arguments_are_one_line(call: Call, vae_run: Path) -> None:
    for args, message in (
        (("--count", "0"), "argument --count: 0 is not 1 or more"),
        (("--count", "x"), "argument --count: invalid whole number value: 'x'"),
        (("--nois", "x"), "--noise x: no such choice; choose from gaussian, masking, salt_pepper"),
        (("--noise", "gausian"), "--noise gausian: no such choice; did you mean 'gaussian'?"),
        (("--device", "gpu"), "--device gpu: no such choice; did you mean 'cuda'?"),
        (("--wrong",), "--wrong: no such option; see denoise.py --help"),
        (("--nose", "salt", "--ouput", "x"), "--nose: no such option; did you mean --noise?"),
        (("more", "-ouput", "x"), "-ouput: no such option; did you mean --output?"),
        (("--overwrite",), "--overwrite: no such option; did you mean --force?"),
        ((), ""),
    ):
        code, _, err = call("denoise", *([vae_run, *args] if args else []))
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_suggests_the_nearest_option(call: Call, name: str) -> None:
    assert call(name, "RUN", "--jsno") == (2, "", f"{name}.py: --jsno: no such option; did you mean --json?\n")


def test_denoise(call: Call, dae_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    path = copied(dae_run)
    code, out, err = call("denoise", path, "--count", 20)
    assert (code, err) == (0, "")
    assert "psnr" in out
    found = json.loads((path / "denoise" / "denoise.json").read_text())
    assert found["images"] == 20
    assert found["model"]["psnr"] > found["noisy"]["psnr"]
    arrays = np.load(path / "denoise" / "denoise.npz")
    assert {k: v.shape for k, v in arrays.items()} == dict.fromkeys(
        ("noisy", "denoised", "clean", "filtered"), (20, 1, 8, 8)
    )
    assert call("denoise", path)[0] == 2
    code, _, err = call("denoise", path, "--count", 5)
    assert err.startswith(f"{path}/denoise/denoise.json: already exists; --force")
    np.save(tmp_path / "in.npy", arrays["noisy"])
    np.save(tmp_path / "clean.npy", arrays["clean"][:3])
    out_dir = tmp_path / "out"
    code, out, _ = call("denoise", path, "--input", tmp_path / "in.npy", "--output", out_dir)
    assert code == 0
    assert len(list(out_dir.glob("image_*.png"))) == 20
    assert np.load(out_dir / "denoise.npz")["denoised"] == pytest.approx(arrays["denoised"], abs=1e-6)
    code, _, err = call("denoise", path, "--input", tmp_path / "in.npy", "--clean", tmp_path / "clean.npy", "--force")
    assert (code, "3 images" in err) == (2, True)


@pytest.mark.usefixtures("quick_classifiers")
def test_embed(call: Call, vae_run: Path, table_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    path = copied(vae_run)
    run = load_run(path, "cpu")
    assert call("embed", path, "--probe")[0] == 0
    arrays = np.load(path / "embed" / "probe" / "codes.npz")
    assert set(arrays) == {f"{kind}_{split}" for kind in "zy" for split in ("train", "val", "test")}
    assert np.array_equal(arrays["z_test"], run.codes(run.data.test))
    assert arrays["y_test"].tolist() == [str(i) for i in run.data.test.y.tolist()]
    assert json.loads((path / "embed" / "probe" / "embed.json").read_text())["probe"]["codes"]["logistic"] > 0.7
    rows = run.data.test.take(slice(0, 4)).x.numpy().reshape(4, 64)
    np.savetxt(tmp_path / "new.csv", rows, delimiter=",")
    code, _, _ = call("embed", path, "--input", tmp_path / "new.csv", "--format", "csv", "--output", tmp_path / "o")
    assert code == 0
    table = list(csv.reader((tmp_path / "o" / "codes.csv").open()))
    assert table[0] == ["name", *(f"z{i}" for i in range(8))]
    assert np.array(table[1:], dtype=float)[:, 1:] == pytest.approx(arrays["z_test"][:4], abs=1e-4)
    np.savetxt(tmp_path / "wide.csv", np.zeros((2, 65)), delimiter=",")
    code, _, err = call("embed", path, "--input", tmp_path / "wide.csv", "--output", tmp_path / "o2")
    assert code == 2
    assert err == f"{tmp_path}/wide.csv: expected shape (N, 1, 8, 8) or (N, 64), as in training, found (2, 65)\n"
    assert not (tmp_path / "o2").exists()


def test_retrieve(call: Call, ae_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    path = copied(ae_run)
    code, _, _ = call("retrieve", path)
    assert code == 0
    found = json.loads((path / "retrieve" / "retrieve.json").read_text())
    assert found["precision@10"] > 0.8
    assert 0.3 < found["map"] < found["precision@10"]
    assert (path / "retrieve" / "hits.png").exists()
    code, out, _ = call(
        "retrieve", path, "--index", 3, 5, "--k", 2, "--output", tmp_path / "o", "--metric", "euclidean"
    )
    assert code == 0
    assert (out.count("query 3\n"), out.count("euclidean ")) == (1, 4)
    lines = list(csv.DictReader((tmp_path / "o" / "hits.csv").open()))
    assert [(line["query"], line["rank"]) for line in lines] == [("3", "1"), ("3", "2"), ("5", "1"), ("5", "2")]
    code, _, err = call("retrieve", path, "--index", 360, "--output", tmp_path / "p")
    assert code == 2
    assert re.fullmatch(r"--index 360: .* 0 to 359\n", err)


def test_project(call: Call, vae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(vae_run)
    code, _, _ = call("project", path, "--method", "pca", "--dim", 3, "--count", 50)
    assert code == 0
    assert len(list(csv.DictReader((path / "project" / "pca_3d" / "points.csv").open()))) == 50
    assert json.loads((path / "project" / "pca_3d" / "project.json").read_text())["method"] == "pca"
    assert (path / "project" / "pca_3d" / "pca.png").exists()
    assert "project_pca_3d:00000" in (path / "projector_config.pbtxt").read_text()


def test_compare(call: Call, ae_run: Path, vae_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("compare", ae_run, vae_run, "--sort", "psnr", "--show", "seconds")
    assert (code, list(tmp_path.iterdir())) == (0, []), "nothing is written unasked"
    assert "Ranked by validation psnr, highest first" in out
    assert "seconds [s] ↓" in out
    assert call("compare", ae_run, vae_run, "--output", tmp_path / "o")[0] == 0
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"comparison.csv", "comparison.png", "comparison.html"}
    code, _, err = call("compare", ae_run, "--output", tmp_path / "o")
    assert (code, err) == (2, f"{tmp_path / 'o' / 'comparison.csv'}: already exists; --force overwrites it\n")
    assert call("compare", ae_run, "--output", tmp_path / "o", "--force")[0] == 0
    code, _, err = call("compare", ae_run, vae_run, "--show", "sekonds")
    assert (code, err) == (
        2,
        "--show=sekonds: no run has this metric; did you mean 'seconds'?; scripts/evaluate.py RUN measures more\n",
    )


def test_evaluate(call: Call, vae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(vae_run)
    code, out, _ = call("evaluate", path, "--only", "reconstruction", "latent", "anomaly")
    assert code == 0
    assert "anomaly: skipped: no class was left out" in out
    assert set(json.loads((path / "evaluation.json").read_text())) == {"reconstruction", "latent", "skipped"}
    assert call("evaluate", path)[0] == 2
    assert call("evaluate", path, "--only", "wrong", "--force")[2].startswith("--only=wrong: must be among")


def test_finetune(call: Call, ae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(ae_run)
    code, out, _ = call("finetune", path, "--labels", 50, "--seeds", 2, "--steps", 20)
    assert code == 0
    assert "margin" in out
    assert set(json.loads((path / "finetune" / "finetune.json").read_text())["numbers"]) == {"50 labels"}


@pytest.mark.parametrize(
    ("name", "good", "wrong", "message"),
    [
        ("embed", [], ["--input", "none.csv"], "none.csv: no such file"),
        ("retrieve", ["--index", 3], ["--index", 9999], "--index 9999: the test split has rows 0 to 359"),
        ("detect", [], ["--score", "typo"], "--score typo"),
    ],
)
def test_a_typing_error_is_named_before_existing_results(
    call: Call, ae_run: Path, copied: Callable[[Path], Path], name: str, good: list[str], wrong: list[str], message: str
) -> None:
    path = copied(ae_run)
    assert call(name, path, *good)[0] == 0
    assert "already exists" in call(name, path, *good)[2]
    code, _, err = call(name, path, *wrong)
    assert code == 2
    assert message in err.replace("=", " ")


def test_an_unfinished_run_says_how_to_go_on(call: Call, ae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(ae_run)
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    code, _, err = call("embed", path)
    assert code == 2
    assert err == f"{path}: the run is not finished (interrupted); resume with: python train.py resume={path}\n"
