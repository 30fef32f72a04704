"""The command line as people use it: what is printed, the exit code, what is left behind."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest
from hydra.types import RunMode

import autoenc
from autoenc import cli, hooks
from autoenc.config import checks
from autoenc.sweeps import running

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["network.hidden=[16]", "trainer.figures=1", "trainer.epochs=1", "trainer.threads=1"]


def forked(cwd: Path, *args: str) -> forks.Done:
    """Run train.py in a fork of this process, without the seconds that imports take."""
    return forks.start(cwd / f"out_{len(list(cwd.glob('out_*')))}", cwd, args).wait()


def train(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run train.py in a new process."""
    command = [sys.executable, str(ROOT / "train.py"), *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_shows_groups_choices_and_examples_without_torch(tmp_path: Path) -> None:
    done = train(tmp_path, "--help")
    assert done.returncode == 0
    for word in ("model", "vae", "beta_vae", "data", "mnist", "article_mnist", "resume=RUN", "-m model=ae,vae"):
        assert word in done.stdout
    program = "import sys; from autoenc.cli import main; main(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["model=vea"], "model=vea: no such option; did you mean 'vae'?"),
        (["modle=vae"], "modle: no such key; did you mean model=vae?"),
        (["experiment=artcle_mnist"], "experiment=artcle_mnist: no such option; did you mean 'article_mnist'?"),
        (["trainer.epoch=3"], "trainer.epoch: no such key; did you mean trainer.epochs=3?"),
        (
            ["model=vae", "regularizer.kl.wieght=2"],
            "regularizer.kl.wieght: no such key; did you mean regularizer.kl.weight=2?",
        ),
        (["regularizer.kl.weight=2"], "regularizer.kl.weight: the term kl is not chosen; add it: regularizer=[kl]"),
        (["+network.widht=2"], "network.widht: mlp has no option 'widht'; choose from activation, decoder_hidden"),
        (["+model.extra=1"], "model.extra: no such key"),
        (["trainer.epochs=fast"], "trainer.epochs=fast: must be a whole number"),
        (["seed=1.5"], "seed=1.5: must be a whole number"),
        (["anomaly_classes=3"], "anomaly_classes: must be a list in brackets, each text: anomaly_classes=[a,b]"),
        (["anomaly_classes=[ten]"], "anomaly_classes=ten: digits has no such class; it has 0, 1, 2"),
        (
            ["model=ae", "data=nsl_kdd"],
            "data/nslkdd/KDDTrain+_20Percent.txt, data/nslkdd/KDDTest+.txt: missing; data=nsl_kdd reads these files,"
            " and docs/data.md has their source, layout and checksum",
        ),
        (["data=adbench"], "data/adbench/6_cardio.npz: missing; data=adbench reads"),
        (["experiment=newsgroups"], "data/20newsgroups/train.csv, data/20newsgroups/test.csv: missing"),
        (["experiment=multi30k"], "data/multi30k/train.en, "),
        (["experiment=defects_tiles"], "data/magnetic_tile: missing; experiment=defects_tiles reads"),
        (["normal_classes=[ten]"], "normal_classes=ten: digits has no such class; it has 0, 1, 2"),
        (["normal_classes=[1]", "anomaly_classes=[2]"], "normal_classes=[1]: cannot be combined with anomaly_classes"),
        (["data=patches", "normal_classes=[1]"], "normal_classes=1: patches has no labels"),
        (["seed=-1"], "seed=-1: must be 0 or more"),
        (["trainer.epochs=0"], "trainer.epochs=0: must be 1 or more"),
        (["trainer.precision=16"], "trainer.precision=16: must be one of 32, bf16"),
        (["optimizer.lr=fast"], "optimizer.lr=fast: must be a number"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (["network.hidden=[3,x]"], "network.hidden=[3, 'x']: must be a list in brackets, each a whole number"),
        (["network.activation=rleu"], "network.activation=rleu: must be one of relu"),
        (["model.latent_dim=0"], "model.latent_dim=0: must be 1 or more"),
        (["model=dae", "noise=masking", "noise.p=1.5"], "noise.p=1.5: must lie between 0 and 1"),
        (["regularizer=kl"], "regularizer=kl: needs a posterior; the bottleneck Deterministic has none"),
        (["model=vae", "regularizer=[kl,auxk]"], "regularizer=auxk: revives units of a sparse bottleneck"),
        (["model=vae", "regularizer=[kl,kl_warmup]"], "two of these are variants of one term"),
        (["regularizer=kl_sparsity"], "regularizer=kl_sparsity: needs codes in (0, 1)"),
        (["model=beta_vae", "regularizer=[]"], "regularizer.kl: has settings but is not among the chosen terms"),
        (
            ["model=contractive", "network.norm=batch"],
            "regularizer=jacobian: needs an encoder without batch statistics",
        ),
        (["model=topk", "model.latent_dim=4"], "model.bottleneck.k=8: must lie in [1, model.latent_dim=4]"),
        (["data=patches", "likelihood=bernoulli"], "likelihood: Bernoulli needs values in [0, 1]"),
        (["data=arrays"], "data.path"),
        (["data=arrays", "data.path=nowhere.npy"], "nowhere.npy: no such file"),
        (["trainer.monitor=accuracy"], "trainer.monitor=accuracy: must be one of loss, nll, mse, psnr"),
        (["resume=nowhere"], "resume=nowhere: is no run directory"),
        (["+resume=nowhere"], "resume=nowhere: is no run directory"),
        (["resume=nowhere", "seed=3"], "leave out seed=3"),
        (
            ["resume=nowhere", "resume=there"],
            "resume=there: one run resumes at a time; leave out this one or resume=now",
        ),
        (["resume=", "resume=nowhere"], "resume: names no run; resume=RUN, or resume=latest"),
        (["resume='a=b'"], "resume=a=b: is no run directory"),
        (["a=b=c"], "a=b=c: cannot be read as KEY=VALUE"),
        (["data.mode=L"], "data.mode: no such key as configured; data=image_folder has it"),
        (["data=table", "data.path=~/a.csv"], "data.path=~/a.csv: cannot be read as KEY=VALUE; a value with = , ~ or"),
        (["model.latent_dim=null"], "model.latent_dim=null: must have a value"),
        (["noise.std=0.5"], "noise.std: no such key as configured; noise=affine, noise=gaussian has it"),
        (["model=vae", "regularizer=[kll]"], "regularizer=kll: no such option; did you mean 'kl'?"),
        (["-m", "seed=0", "hydra/launcher=joblb"], "hydra/launcher=joblb: no such option; did you mean 'joblib'?"),
        (["model=vae", "prior=standrd"], "prior=standrd: no such option; did you mean 'standard'?"),
        (["model.prior=vamp"], "model.prior=vamp: must be settings; prior=vamp chooses an option"),
        (["model.prior.parts=3"], "model.prior.parts: no such key"),
        (["prior.parts=3"], "prior.parts: no such key; did you mean model.prior.parts=3?"),
        (["model=vae,ae"], "model=vae,ae: several values define a sweep: add -m"),
        (["--model", "vae"], "--model vae: write model=vae"),
        (["model", "vae"], "model vae: write model=vae"),
        (["model=", "vae"], "model= vae: write it without blanks: model=vae"),
        (["model", "=", "vae"], "model = vae: write it without blanks: model=vae"),
        (["network.hidden=[64,", "32]"], "write it without blanks: network.hidden=[64,32]"),
        (["vae"], "vae: write model=vae"),
        (["mnist", "model=vae"], "mnist: write data=mnist"),
        (["--epochs", "5"], "--epochs 5: write trainer.epochs=5"),
        (["model=vae", "--batch-size=64"], "--batch-size=64: write trainer.batch_size=64"),
        (["--cfg"], "expected one argument"),
        (["--frobnicate"], "--frobnicate: no such option"),
        (["epochs=5"], "epochs: no such key; did you mean trainer.epochs=5?"),
        (["latent_dim=8"], "latent_dim: no such key; did you mean model.latent_dim=8?"),
        (["lr=0.01"], "lr: no such key; did you mean optimizer.lr=0.01?"),
        (["model.lr=0.01"], "model.lr: no such key; did you mean optimizer.lr=0.01?"),
        (["training.epochs=5"], "training.epochs: no such key; did you mean trainer.epochs=5?"),
        (["batch_size=64"], "batch_size: no such key; did you mean trainer.batch_size=64?"),
        (["dataset=mnist"], "dataset: no such key; did you mean data=mnist?"),
        (["device=cuda"], "device: no such key; did you mean trainer.device=cuda?"),
        (["model=vae", "beta=4"], "beta: no such key; did you mean regularizer.kl.weight=4?"),
        (["beta=4"], "beta: no such key as configured; did you mean model=vae regularizer.kl.weight=4?"),
        (["model.beta=4"], "model.beta: no such key as configured; did you mean model=vae regularizer.kl.weight=4?"),
        (["kl=2"], "kl: no such key as configured; did you mean model=vae regularizer.kl.weight=2?"),
        (
            ["model=vae", "l1=1"],
            "l1: no such key as configured; did you mean regularizer=[kl,l1] regularizer.l1.weight=1?",
        ),
        (["noise_std=1"], "did you mean noise=affine noise.std=1 or noise=gaussian noise.std=1?"),
        (["std=1"], "did you mean noise=affine noise.std=1 or noise=gaussian noise.std=1?"),
        (["free_bits=1"], "did you mean model=vae regularizer.kl.free_bits=1?"),
        (["trainer_epochs=3"], "trainer_epochs: no such key; did you mean trainer.epochs=3?"),
        (["model.bottleneck.k=3"], "no such key as configured; model=batch_topk, model=matryoshka, model=topk has it"),
        (
            ["noise=0.3"],
            "noise=0.3: noise is an option, not a number; choose from affine, blemishes, channels, gaussian",
        ),
        (["learning_rate=1"], "learning_rate: no such key; did you mean optimizer.lr=1?"),
        (
            ["model=vae", "regularizer=[kl_warmup]", "regularizer.kl.weight=4"],
            "regularizer.kl.weight=4: would replace the schedule of regularizer=[kl_warmup]; give the value at its end:"
            " regularizer.kl.weight.end=4",
        ),
        (["model=beta_vae", "regularizer=[kl_cyclical]"], "use model=vae and give the value at its end"),
        (["model=beta_vae", "regularizer=[kl_warmup]", "regularizer.kl.weight.end=4"], "is the number 4"),
        (["+lr=1"], "+lr=1: no such key; did you mean optimizer.lr=1?"),
        (["+beta=4"], "+beta=4: no such key; did you mean model=vae regularizer.kl.weight=4?"),
        (["path=a.csv"], "path: no such key; did you mean data.path=a.csv?"),
        (["output=here"], "output: no such key; did you mean hydra.run.dir=here"),
        (["name=here"], "name: no such key; did you mean hydra.run.dir=here"),
        (["n_train=3"], "n_train: no such key; choose from anomaly_classes, init_from, labels, labels_seed, normal_"),
        (["sparsity=3"], "sparsity: no such key as configured; did you mean regularizer=[l1] regularizer.l1.weight=3?"),
        (["num_workers=3"], "num_workers: no such key as configured; did you mean data=image_folder data.workers=3?"),
        (["hidden_dim=64"], "hidden_dim: no such key; did you mean network.hidden=64?"),
        (["test_size=0.3"], "test_size: no such key; did you mean data.test_fraction=0.3?"),
        (
            ["n_clusters=3"],
            "did you mean prior=mixture model.prior.components=3 or prior=vamp model.prior.components=3?",
        ),
        (["data=my.csv"], "data=my.csv: no such option; for a file: data=table data.path=my.csv"),
        (["trainer.patience=None"], "for no value write trainer.patience=null"),
        (["model=VAE"], "model=VAE: no such option; did you mean 'vae'?"),
        (["data=fashion-mnist"], "did you mean 'fashion_mnist'?"),
        (["trainer.threads=100000"], "trainer.threads=100000: must be at most 1024"),
        (["trainer.batch_size=99999999999999999999"], "trainer.batch_size=99999999999999999999: must be below"),
        (["seed=18446744073709551616"], "seed=18446744073709551616: must be 0 or more, and below 2^63"),
        (["data.split_seed=18446744073709551616"], "data.split_seed=18446744073709551616: must be a whole number"),
        (["model.latent_dim=100000000000"], "model.latent_dim=100000000000: must be at most 1,000,000"),
        (["resume="], "resume: names no run; resume=RUN, or resume=latest"),
        (["~seed"], "seed: must be given"),
        (["=1"], "=1: cannot be applied to the config"),
        (["model=null"], "model=null: cannot be applied to the config"),
        (["model.bottleneck={_target_:autoenc.bottlenecks.affine.affine,size:3}"], "model.bottleneck"),
        (["data=table", "data.path=a\x1b[31mb"], r"data.path=a\x1b[31mb"),
        (["hydra.run.dir=/proc/x"], "/proc/x: No such file or directory"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *args])
    monkeypatch.setattr(cli.Callbacks, "error", None)
    assert cli.main() == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.*"))
    assert not list(tmp_path.glob("outputs/*"))


def test_a_sweep_without_jobs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=range(0,0)"])
    assert cli.main() == 2
    assert capsys.readouterr().err == "seed=range(0,0): a sweep without jobs\n"
    assert not list(tmp_path.iterdir())


def test_the_version_is_that_of_autoenc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"autoenc {autoenc.__version__}\n"


def test_train_then_use_the_same_directory_again(tmp_path: Path) -> None:
    done = forked(tmp_path, "model=vae", "hydra.run.dir=here", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("run: here") == done.stdout.count("epoch   1 ") == 1
    assert "epoch   1 " in (tmp_path / "here" / "train.log").read_text()
    before = (tmp_path / "here" / ".hydra" / "config.yaml").read_bytes()
    again = forked(tmp_path, "model=ae", "hydra.run.dir=here", *QUICK)
    assert again.returncode == 2
    assert again.stderr == "hydra.run.dir=here: is already in use; name another, or use resume=here\n"
    assert (tmp_path / "here" / ".hydra" / "config.yaml").read_bytes() == before


def denied(path: Path) -> Callable[..., None]:
    """A function that fails as the operating system does; root may write everywhere."""

    def fail(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    return fail


@pytest.mark.parametrize(
    ("what", "args", "message"),
    [
        ("filelock.FileLock.acquire", ["hydra.run.dir=here"], "here: cannot be locked (Permission denied)\n"),
        ("filelock.FileLock.acquire", ["-m", "hydra.sweep.dir=here"], "here: cannot be locked (Permission denied)\n"),
        ("hydra.core.utils._save_config", ["hydra.run.dir=here"], "here/.lock: Permission denied\n"),
        ("autoenc.sweeps.running.check_jobs", ["-m", "hydra.sweep.dir=here"], "here/.lock: Permission denied\n"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_one_line(
    what: str,
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(what, denied(Path("here/.lock")))
    sweep = running.Running()
    monkeypatch.setattr(cli, "sweep", sweep)
    monkeypatch.setattr(hooks, "sweep", sweep)
    monkeypatch.setattr(cli.Callbacks, "error", None)
    monkeypatch.setattr(sys, "argv", ["train.py", *args, "seed=1"])
    assert cli.main() == 2
    assert capfd.readouterr() == ("", message)


def test_a_folder_that_has_only_files_of_hydra_is_not_in_use(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    hooks._refuse_used("hydra.run.dir", tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(SystemExit):
        hooks._refuse_used("hydra.run.dir", tmp_path)


def test_sweep_goes_on_past_a_failing_job_and_ends_with_a_comparison(tmp_path: Path) -> None:
    args = ["-m", "model=topk", "model.latent_dim=2,9,12", *QUICK[1:], "trainer.figures=0"]
    done = forked(tmp_path, *args)
    assert done.returncode == 1
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert sorted(p.name.split("_")[0] for p in sweep.iterdir() if p.is_dir()) == ["0", "1", "2"]
    rows = sorted(csv.DictReader((sweep / "comparison.csv").open()), key=lambda row: row["run"])
    assert [row["state"] for row in rows] == ["failed", "finished", "finished"]
    assert "model.bottleneck.k=8: must lie in [1, model.latent_dim=2]" in rows[0]["error"]
    assert [row["model.latent_dim"] for row in rows] == ["2", "9", "12"]
    for row in rows:
        if row["state"] == "finished":
            summary = json.loads((sweep / row["run"] / "summary.json").read_text())
            assert float(row["mse"]) == summary["test"]["mse"]
    assert (sweep / "comparison.png").stat().st_size > 5_000
    assert "2 of 3 runs finished" in done.stdout
    kept, lost = (sweep / row["run"] for row in rows[1:])
    before = (kept / "summary.json").stat().st_mtime_ns
    for name in ("run.json", "checkpoints/last.pt"):
        (lost / name).unlink()
    again = forked(tmp_path, f"resume={sweep}")
    assert again.returncode == 1, "job 0 is tried again and fails again"
    assert (kept / "summary.json").stat().st_mtime_ns == before
    assert again.stdout.count(": finished before") == 1
    assert json.loads((lost / "run.json").read_text())["state"] == "finished"
    assert "2 of 3 runs finished" in again.stdout


def test_a_minimizing_sweeper_gets_lower_values_for_better_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from autoenc import run

    hydra_state = SimpleNamespace(
        overrides=SimpleNamespace(task=[]),
        runtime=SimpleNamespace(choices={}, output_dir=str(tmp_path)),
        mode=RunMode.RUN,
    )
    monkeypatch.setattr(hooks.HydraConfig, "get", lambda: hydra_state)
    monkeypatch.setattr(checks, "check", lambda cfg: cfg)
    monkeypatch.setattr(run, "train", lambda *args: {"val": {"psnr": 20.0, "accuracy": 0.5, "mse": 3.0}})
    rest = {"regularizer": {}, "data": {"_target_": "autoenc.data.digits"}}
    values = {name: hooks.job({"trainer": {"monitor": name}, **rest}) for name in ("psnr", "accuracy", "mse")}
    assert values == {"psnr": -20.0, "accuracy": -0.5, "mse": 3.0}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("model=ae,topk network.hidden=[16]", "network.hidden: not every job of the sweep has this key"),
        ("model=ae,vea", "model=vea: no such option; did you mean 'vae'?"),
        ("data=digits,digts model=ae hydra/launcher=joblib", "data=digts: no such option; did you mean 'digits'?"),
        ("optimizer.lrr=1,2", "optimizer.lrr: no such key; did you mean optimizer.lr=1,2?"),
        ("trainer.epochs=1,x", "trainer.epochs=x: must be a whole number"),
        ("model=ae,vae trainer.epochs=-1", "trainer.epochs=-1: must be 1 or more"),
        ("data=table data.path=a.csv,b.csv seed=1,2 hydra.sweep.dir=a/b", "data.path=a.csv: no such file"),
        ("data=table data.path=a.csv trainer.replicas=2", "data.path=a.csv: no such file"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_it_is_announced(
    args: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = running.Running()
    monkeypatch.setattr(cli, "sweep", sweep)
    monkeypatch.setattr(hooks, "sweep", sweep)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *args.split()])
    assert cli.main() == 2
    assert capfd.readouterr() == ("", f"{message}\n")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(("given", "threads"), [({}, {1}), ({"OPENBLAS_NUM_THREADS": "2"}, {2})])
def test_numpy_has_one_thread_unless_the_environment_says_otherwise(given: dict[str, str], threads: set[int]) -> None:
    program = (
        "from autoenc import launched; launched.single_blas_thread(); import numpy;"
        "from threadpoolctl import threadpool_info;"
        "print([each['num_threads'] for each in threadpool_info() if each['internal_api'] == 'openblas'])"
    )
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=kept | given, capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stdout)) <= {min(each, os.cpu_count() or 1) for each in threads}


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, 2000), ({"GOMP_SPINCOUNT": "7"}, 7), ({"OMP_WAIT_POLICY": "PASSIVE"}, 0)],
)
def test_threads_spin_for_a_short_time_unless_the_environment_says_otherwise(given: dict[str, str], spins: int) -> None:
    library = next(Path(sys.prefix).rglob("torch/lib/libgomp*"), None)
    if library is None:
        pytest.skip("torch has another library of threads here")
    program = "import autoenc, ctypes, sys; ctypes.CDLL(sys.argv[1])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    told = kept | given | {"OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run(
        [sys.executable, "-c", program, library], cwd=ROOT, env=told, capture_output=True, text=True, check=True
    )
    assert f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


def test_sweep_in_parallel(tmp_path: Path) -> None:
    args = ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "model=vae", "seed=1,2", *QUICK]
    done = forked(tmp_path, *args, "trainer.figures=0")
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rows = sorted(csv.DictReader((sweep / "comparison.csv").open()), key=lambda row: row["run"])
    assert [(row["seed"], row["state"]) for row in rows] == [("1", "finished"), ("2", "finished")]
    assert rows[0]["loss"] != rows[1]["loss"]
