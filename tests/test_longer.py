"""More training: of a finished run, from the weights of another, and from Python."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import autoenc
from autoenc import cli, run
from autoenc.apps.outputs import Outputs
from autoenc.config.composed import compose
from autoenc.data import Data, digits
from autoenc.errors import ConfigError, UserError
from autoenc.loading import load_run
from autoenc.training import checkpoint

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = ["model=vae", "network.hidden=[8]", "model.latent_dim=2", "trainer.figures=0", "trainer.threads=1"]


@pytest.fixture(scope="module")
def few() -> Data:
    whole = digits()
    few = slice(0, 200)
    return Data(whole.spec, whole.train.subset(few), whole.val.subset(few), whole.test.subset(few))


@pytest.fixture(scope="module")
def finished(few: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "short"
    run.train(compose([*SMALL, "trainer.epochs=2"]), folder, {"model": "vae"}, data=few)
    return folder


@pytest.fixture
def short(finished: Path, tmp_path: Path, few: Data, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run of two epochs; builds use the few examples."""
    monkeypatch.setattr("autoenc.build.build_data", lambda config, kind=None: few)
    return Path(shutil.copytree(finished, tmp_path / "short"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.load(folder / "checkpoints" / "last.pt")["model"]
    return found


def test_a_finished_run_trains_for_longer_as_if_it_had_never_stopped(short: Path, tmp_path: Path) -> None:
    run.resume(short, {"epochs": 3})
    run.train(compose([*SMALL, "trainer.epochs=3"]), tmp_path / "whole", {"model": "vae"})
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(short)[name]), name
    assert yaml.safe_load((short / "config.yaml").read_text())["trainer"]["epochs"] == 3
    epochs = [
        [(line["split"], line["step"]) for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
        for folder in (short, tmp_path / "whole")
    ]
    assert epochs[0] == epochs[1]
    assert load_run(short, "cpu").record["state"] == "finished"


def test_results_of_earlier_weights_are_moved_aside(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (short / "detect" / "input").mkdir(parents=True)
    for name in ("detect/input/detect.json", "evaluation.json", "notes.txt"):
        (short / name).write_text("{}")
    with Outputs(load_run(short, "cpu"), "denoise") as out:
        out.json({})
        out.figure("examples", np.zeros((8, 8, 3), np.uint8))
    step = checkpoint.load(short / "checkpoints" / "last.pt")["progress"]["step"]
    run.resume(short, {"epochs": 3})
    left, moved = ({path.name for path in folder.iterdir()} for folder in (short, short / f"until_step_{step}"))
    assert not {"detect", "denoise", "evaluation.json"} & left
    assert moved > {"detect", "denoise", "evaluation.json"}
    events = [path for path in moved if path.startswith("events.out.tfevents.")]
    assert len(events) == 1
    assert moved - {*events, "detect", "denoise", "evaluation.json"} <= {"projector_config.pbtxt", "00000"}
    assert "notes.txt" in left
    line = " ".join(capsys.readouterr().out.split())
    assert f"figures in TensorBoard: moved to {short / f'until_step_{step}'}" in line


def test_fewer_epochs_than_done_are_refused_and_nothing_is_changed(short: Path) -> None:
    before = (short / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"trainer.epochs=2: the run has trained for 2 epochs; give a larger number"):
        run.resume(short, {"epochs": 2})
    assert (short / "config.yaml").read_bytes() == before
    assert load_run(short, "cpu").record["state"] == "finished"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["optimizer.lr=1"],
            "only trainer.epochs, trainer.steps, trainer.patience may change; leave out optimizer.lr=1",
        ),
        (["trainer.epochs=many"], "trainer.epochs=many: must be a whole number"),
        ([], "to train for longer, add a larger trainer.epochs"),
    ],
)
def test_only_the_length_may_change(
    short: Path, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", f"resume={short}", *args])
    assert cli.main() == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_new_run_starts_from_the_weights_of_another(short: Path, tmp_path: Path) -> None:
    config = compose([*SMALL, "trainer.steps=1", "optimizer=sgd", "optimizer.lr=1e-12", f"init_from={short}"])
    run.train(config, tmp_path / "new", {})
    best = checkpoint.load(short / "checkpoints" / "best.pt")["model"]
    for name, tensor in weights(tmp_path / "new").items():
        torch.testing.assert_close(tensor, best[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.latent_dim=3"], r"init_from=.*short: model.latent_dim is 2 there and 3 here; use the settings"),
        (["network.hidden=[8,8]"], r"short: network.hidden is \[8\] there and \[8, 8\] here"),
        (
            ["network=conv", "network.hidden=8"],
            r"short: network is autoenc.networks.mlp there and autoenc.networks.conv here; use",
        ),
        (["model=ae"], r"short: model.bottleneck is autoenc.bottlenecks.Gaussian there and .*Deterministic here"),
    ],
)
def test_weights_that_do_not_fit_are_named(short: Path, tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run.train(compose([*SMALL, *changes, f"init_from={short}"]), tmp_path / "new", {})
    assert not (tmp_path / "new" / "config.yaml").exists()


def test_weights_for_examples_of_another_shape_are_named(
    short: Path, tmp_path: Path, make_data: Callable[..., Data]
) -> None:
    config = compose([*SMALL, "likelihood=gaussian", f"init_from={short}"])
    with pytest.raises(ConfigError, match=r"short: data: examples are of shape \[1, 8, 8\] there and \[6\] here"):
        run.train(config, tmp_path / "new", {}, data=make_data())


def test_weights_of_no_run_are_refused(tmp_path: Path, few: Data) -> None:
    with pytest.raises(ConfigError, match=r"init_from=nowhere: has no weights of a run"):
        run.train(compose([*SMALL, "init_from=nowhere"]), tmp_path / "new", {}, data=few)


def test_training_from_python_leaves_a_run_like_that_of_the_command_line(
    few: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides: list[Any] = [*SMALL, "trainer.epochs=1"]
    finished = autoenc.train(overrides, data=few)
    (folder,) = (tmp_path / "outputs" / "digits" / "vae").iterdir()
    assert finished.path.resolve() == folder
    assert finished.record["choices"]["model"] == "vae"
    assert finished.encode(few.test.take(slice(None)).x).shape == (len(few.test), 2)
    assert load_run(folder, "cpu").config == finished.config
    with pytest.raises(UserError, match="is already in use"):
        autoenc.train(overrides, folder, few)
    with pytest.raises(UserError, match="did you mean 'vae'"):
        autoenc.train(["model=vea"])
    for override, key in (("labels=30", "labels=30"), ("anomaly_classes=[3]", "anomaly_classes=")):
        with pytest.raises(ConfigError, match=rf"^{key}.*: is for data sets of a config"):
            autoenc.train([*overrides, override], data=few)


def test_runs_resume_from_python_as_on_the_command_line(
    short: Path, few: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = autoenc.train([f"resume='{short}'", "trainer.epochs=3"])
    assert (longer.path, longer.config["trainer"]["epochs"]) == (short, 3)
    monkeypatch.undo()  # builds have all examples of the config's data set, not those that the run was trained on
    with pytest.raises(ConfigError, match="the data have changed since it was trained"):
        autoenc.train([f"resume={short}", "trainer.epochs=4"])
    assert autoenc.train([f"resume={short}", "trainer.epochs=4"], data=few).data is few
    assert [json.loads(line)["epoch"] for line in (short / "metrics.jsonl").read_text().splitlines()][-2] == 4


@pytest.mark.parametrize(
    ("overrides", "run_dir", "message"),
    [
        (["resume=RUN", "optimizer.lr=1"], None, r"^resume=RUN: .* leave out optimizer\.lr=1$"),
        (["optimizer.lr=1", "resume=RUN"], None, r"leave out optimizer\.lr=1$"),
        (["resume=RUN", "trainer.epochs=[1"], None, r"^trainer\.epochs=\[1: must be a whole number$"),
        (["resume=RUN"], "there", r"^run_dir=there: resume=RUN trains in its own folder; leave out run_dir$"),
        (["resume=RUN", "resume=OTHER"], None, r"^resume=OTHER: one run resumes at a time"),
        (["resume="], None, r"^resume: names no run"),
        (["resume=RUN"], None, r"^resume=RUN: is no run directory"),
        (["hydra.run.dir=there"], None, r"^hydra\.run\.dir: is only for the command line .* run_dir names"),
    ],
)
def test_what_cannot_apply_from_python_is_named(
    overrides: list[str], run_dir: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        autoenc.train(overrides, run_dir)
    assert not list(tmp_path.iterdir())


def test_clusters_start_from_a_trained_autoencoder_and_are_kept_when_they_are_trained_further(
    short: Path, few: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ["trainer.steps=1", "optimizer=sgd", "optimizer.lr=1e-12"]
    code, prior = "bottleneck.linear.weight", "bottleneck.prior.mean"
    run.train(compose([*SMALL, "model=ae", "trainer.epochs=2"]), tmp_path / "ae", {})
    vade = [*SMALL, "model=vade", "model.prior.components=3"]
    run.train(compose([*vade, *still, f"init_from={tmp_path / 'ae'}"]), tmp_path / "vade", {})
    assert "init_from=RUN" not in capsys.readouterr().out
    started = weights(tmp_path / "vade")
    torch.testing.assert_close(started[code][:2], weights(tmp_path / "ae")[code])
    trained = load_run(tmp_path / "vade", "cpu")
    codes, centres = trained.codes(few.train), trained.model.bottleneck.prior.parts()[1].detach().numpy()
    assert ((centres > codes.min(0)) & (centres < codes.max(0))).all(), "fitted to the codes"
    run.train(compose([*vade, *still, "seed=1", f"init_from={tmp_path / 'vade'}"]), tmp_path / "further", {})
    torch.testing.assert_close(weights(tmp_path / "further")[prior], started[prior], msg="not fitted anew")
    other = [*vade, *still, "model.prior.rate=0.5", f"init_from={tmp_path / 'vade'}"]  # is stored in other units
    run.train(compose(other), tmp_path / "other", {})
    again = load_run(tmp_path / "other", "cpu").model.bottleneck.prior.parts()[1].detach().numpy()
    assert again[again[:, 0].argsort()] == pytest.approx(centres[centres[:, 0].argsort()], rel=0.05)
    run.train(compose([*vade, *still, f"init_from={short}"]), tmp_path / "from_vae", {})
    torch.testing.assert_close(weights(tmp_path / "from_vae")[code], weights(short)[code])
    run.train(compose([*vade, *still]), tmp_path / "new", {})
    assert "init_from=RUN starts from those of a trained model=ae" in capsys.readouterr().out


def test_a_finished_run_without_its_last_checkpoint_is_kept(short: Path, few: Data) -> None:
    (short / "checkpoints" / "last.pt").unlink()
    before = sorted(path.name for path in short.rglob("*"))
    with pytest.raises(ConfigError, match=rf"^resume={short}: is finished, and has no checkpoints/last\.pt"):
        run.resume(short, {"epochs": 3}, data=few)
    assert sorted(path.name for path in short.rglob("*")) == before
