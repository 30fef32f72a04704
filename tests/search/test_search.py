"""Searches: budget, default, pruning, resuming, failures, several processes."""

import csv
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from autoenc import report, run
from autoenc.errors import ConfigError, Pruned, UserError
from autoenc.search import result, study, trial
from autoenc.search.plan import plan
from autoenc.search.run import run as search
from autoenc.training.trainer import Watch

Call = Callable[..., tuple[int, str, str]]
SMALL = ("model=ae", "network.hidden=[8]", "trainer.epochs=2", "trainer.figures=0", "trainer.device=cpu")
SPACE = "model.latent_dim=int(2,16) optimizer.lr=log(1e-4,1e-2)"
FOLDER = Path("outputs/searches/digits-ae-mse")


def at_once(attempt: Callable[[], str], killed: Callable[[str], None]) -> str:
    return attempt()


def trained(overrides: Sequence[str], run_dir: Path, *_: object) -> str:
    """A run in no time: its validation mse is the learning rate."""
    settings = dict(o.split("=", 1) for o in overrides)
    rate, dim = float(settings.get("optimizer.lr", 0.001)), int(settings.get("model.latent_dim", 16))
    numbers = {"mse": rate * (1 + int(settings.get("seed", 0)) / 100)}
    (run_dir / "run.json").write_text('{"state": "finished"}')
    summary = {"val": numbers, "test": numbers, "perf": {"seconds": 1.0, "parameters": dim}}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    (run_dir / "metrics.jsonl").write_text(json.dumps({"split": "val", "step": 1, "epoch": 1.0, **numbers}) + "\n")
    (run_dir / "config.yaml").write_text(
        f"seed: {settings.get('seed', 0)}\noptimizer: {{lr: {rate}}}\nmodel: {{latent_dim: {dim}}}\n"
    )
    return trial.DONE


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in no time, without plots."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "isolated", at_once)
    monkeypatch.setattr(study, "preload", lambda: None)
    monkeypatch.setattr(study, "attempt", trained)
    monkeypatch.setattr(result, "plots", lambda *_: [])


def searched(trials: int, *more: str, space: str = SPACE, metric: str = "val/mse", seeds: int = 0) -> int:
    return search(plan([*SMALL, *more], space, metric, None, trials, seeds, pruning=True))[0]


def rows(folder: Path = FOLDER) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


# Whole searches


@pytest.mark.usefixtures("quick")
def test_an_end_that_no_model_can_be_built_with_is_refused_before_the_first_run() -> None:
    with pytest.raises(UserError, match=r"--space, topk: model\.bottleneck\.k=8: must lie in"):
        search(plan(["model=topk", *SMALL[2:]], "model.latent_dim=int(2,16)", "val/mse", None, 2, 0, pruning=True))
    assert not FOLDER.parent.exists() or not list(FOLDER.parent.iterdir())


def test_trials_are_runs_and_the_result_has_default_and_tuned(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "isolated", at_once)
    for name in ("draw", "_project"):  # of each run: seconds
        monkeypatch.setattr(report, name, lambda *_: None)
    code, out, err = call("search", *SMALL, "--space", SPACE, "--metric", "val/mse", "--trials", 1, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((FOLDER / "result.json").read_text())
    assert [row["trial"] for row in rows()] == ["default", "1"]
    best = next(row for row in rows() if "best" in row["state"])
    given = f"model.latent_dim={best['model.latent_dim']} optimizer.lr={best['optimizer.lr']}"
    assert (given in json.loads(out)["variants"]["ae"]["best"][0]["command"]) is (best["trial"] == "1")
    folder = FOLDER / "ae" / best["run"]
    assert json.loads((folder / "run.json").read_text())["state"] == "finished"
    assert float(best["val/mse"]) == json.loads((folder / "summary.json").read_text())["val"]["mse"]
    assert "ae default" in err
    assert ("ae tuned" in err) is (best["trial"] == "1")
    made = {path.name for path in FOLDER.rglob("*") if path.suffix in (".png", ".html", ".csv")}
    assert {"comparison.csv", "comparison.html", "comparison.png", "ae_slice.png", "ae_param_importances.png"} <= made


def test_the_same_command_trains_nothing_twice_and_more_trials_continue(quick: None) -> None:
    assert searched(3) == 0
    before = rows()
    assert searched(3) == 0
    assert rows() == before
    assert searched(5) == 0
    assert len(rows()) == 1 + 5


def test_each_variant_gets_the_same_number_of_trials(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(["model=ae,vae", *SMALL[1:]], SPACE, "val/mse", None, 3, 0, True)
    assert search(made)[0] == 0
    counts = [row["variant"] for row in rows(made.folder)]
    assert counts.count("ae") == counts.count("vae") == 1 + 3


def test_the_default_is_part_of_the_study_only_if_it_lies_in_the_space(quick: None) -> None:
    searched(2, space="model.latent_dim=int(2,8)")
    assert [row["trial"] for row in rows()] == ["0", "1"]  # latent_dim is 16
    assert (FOLDER / "ae" / "default" / "summary.json").exists()
    space = "trainer.clip=choice(null,1) network.hidden=choice([512,256],[64]) optimizer=choice(adam,sgd)"
    made = plan(["model=ae"], space, "val/mse", "choices", 1, 0, True)
    search(made)
    assert [row["trial"] for row in rows(made.folder)] == ["default", "1"]


def test_seeds_repeat_default_and_tuned(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    searched(8, seeds=2)
    best = next(row["trial"] for row in rows() if "best" in row["state"])
    names = {path.name for path in (FOLDER / "ae").glob("*_seed=*")}
    assert names == {"default_seed=1", "default_seed=2", f"{best}_seed=1", f"{best}_seed=2"}
    assert "mse against ae tuned" in capsys.readouterr().out  # a verdict


def test_two_metrics_give_a_pareto_front(quick: None) -> None:
    searched(8, metric="val/mse,parameters")
    found = [
        (float(r["val/mse"]), float(r["parameters"]), "best" in r["state"]) for r in rows(Path(f"{FOLDER}_parameters"))
    ]
    for mse, size, front in found:
        assert front is not any(m <= mse and s <= size and (m, s) != (mse, size) for m, s, _ in found)


# Pruning


def test_a_run_that_is_pruned_says_so_and_resumes(tmp_path: Path) -> None:
    from autoenc.config.composed import compose

    seen: list[int] = []

    def watch(epoch: int, numbers: Any) -> None:
        seen.append(epoch)
        if epoch == 2:
            raise Pruned("mse 1 after epoch 2 is in the worst quarter")

    config = compose([*SMALL, "trainer.epochs=3"])
    with pytest.raises(Pruned):
        run.train(config, tmp_path, watch=Watch(see=watch))
    assert seen == [1, 2]
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["state"], record["error"]) == ("pruned", "mse 1 after epoch 2 is in the worst quarter")
    run.resume(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["state"] == "finished"


def test_trials_in_the_worst_quarter_are_pruned(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(overrides: Sequence[str], run_dir: Path, watch: Watch, resume: bool = False) -> str:
        trained(overrides, run_dir)
        value = json.loads((run_dir / "summary.json").read_text())["val"]["mse"]
        try:
            for epoch in (1, 2, 3):
                watch.see(epoch, {"mse": value})
        except Pruned as why:
            (run_dir / "summary.json").unlink()
            (run_dir / "run.json").write_text(json.dumps({"state": "pruned", "error": str(why)}))
            return trial.PRUNED
        return trial.DONE

    monkeypatch.setattr(study, "attempt", attempt)
    searched(20)
    rates = {state: [float(r["optimizer.lr"]) for r in rows() if r["state"].startswith(state)] for state in ("f", "p")}
    assert rates["p"]
    assert min(rates["f"]) < min(rates["p"])


# What goes wrong


def test_a_trial_that_fails_is_a_row(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def attempt(overrides: Sequence[str], run_dir: Path, *rest: object) -> str:
        if run_dir.name.startswith("2_"):
            (run_dir / "run.json").write_text('{"state": "failed", "error": "out of memory"}')
            return trial.FAILED
        return trained(overrides, run_dir)

    monkeypatch.setattr(study, "attempt", attempt)
    assert searched(3) == 0
    assert [(r["state"].split(",")[0], r["error"]) for r in rows()] == [
        *[("finished", "")] * 2, ("failed", "out of memory"), ("finished", "")]  # fmt: skip
    searched(3)
    assert len(rows()) == 1 + 3  # it counts


def test_a_trial_that_was_killed_is_replaced_by_the_next_call(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(attempt: Callable[[], float], note: Callable[[str], None]) -> None:
        note("killed by signal 9")

    searched(2)
    monkeypatch.setattr(study, "isolated", killed)
    searched(3)
    assert rows()[-1]["state"] == "failed"
    assert rows()[-1]["error"] == "killed by signal 9"
    monkeypatch.setattr(study, "isolated", at_once)
    searched(3)
    assert [row["state"].split(",")[0] for row in rows()] == ["finished"] * 3 + ["failed", "finished"]


def test_a_line_of_the_journal_that_a_kill_cut_off_is_dropped(quick: None) -> None:
    searched(2)
    with (FOLDER / "journal.log").open("a") as journal:
        journal.write('{"op_code": 4, "worker')
    searched(3)
    assert len(rows()) == 1 + 3
    (FOLDER / "journal.log").write_text('{"other": 1}\n')
    with pytest.raises(UserError, match=r"journal.log: is damaged .*; --name starts another search"):
        searched(3)


def test_trials_are_kept_if_a_later_run_is_refused(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object, *_: object) -> None:
        (checkpoints := FOLDER / "ae" / "0_lr=0.01" / "checkpoints").mkdir(parents=True, exist_ok=True)
        (checkpoints / "best.pt").touch()
        raise UserError("data.path: no such file")

    monkeypatch.setattr(study.Search, "repeat", refused)
    with pytest.raises(UserError, match="no such file"):
        searched(2, seeds=1)
    assert len(list(FOLDER.glob("ae/*/summary.json"))) >= 2


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_trial_whose_search_was_killed_resumes_or_is_replaced(
    checkpoint: bool, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, resumed = plan(SMALL, SPACE, "val/mse", None, 2, 0, True), []

    def attempt(overrides: Sequence[str], run_dir: Path, watch: Watch, resume: bool = False) -> str:
        resumed.extend([run_dir.name] * resume)
        return trained(overrides, run_dir)

    monkeypatch.setattr(study, "attempt", attempt)
    asked = study.Search(made, print)._ask()
    assert asked is not None
    assert study.Search(made, print).running() == 1
    run_dir = FOLDER / "ae" / asked[1].user_attrs["run"]
    (run_dir / "checkpoints").mkdir(parents=True)
    for name in ("run.json", "config.yaml", *["checkpoints/last.pt"] * checkpoint):
        (run_dir / name).write_text('{"state": "running"}')
    asked[2].release()  # as the end of a process does
    assert searched(2) == 0
    states = [(row["trial"], row["state"].split(",")[0]) for row in rows()]
    assert states[0] == ("0", "finished" if checkpoint else "failed")
    assert [state for _, state in states].count("finished") == 2 + 1  # with the default
    assert resumed == [run_dir.name] * checkpoint


def test_a_search_without_a_finished_trial_exits_with_1(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "attempt", lambda *_: trial.FAILED)
    assert searched(2) == 1


def test_two_processes_share_the_trials(quick: None) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=searched, args=(12,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    searched(12)
    found = rows()
    assert len(found) == 1 + 12
    assert len({row["optimizer.lr"] for row in found}) == 1 + 12
    assert all(row["state"].startswith("finished") for row in found)


# Bad input


@pytest.mark.parametrize(
    ("settings", "space", "named"),
    [
        (SMALL, "model.latent_dimm=int(2,8)", "--space model.latent_dimm: no such key; did you mean model.latent_dim?"),
        (SMALL, "model.latent_dim=int(0,8)", "--space model.latent_dim=0: must be 1 or more"),
        (SMALL, "trainer.epochs=int(1,8)", "--space trainer.epochs: is also set: leave out trainer.epochs=2"),
        (SMALL[1:], "model=choice(ae,vae)", "--space model: give each model the same trials: model=vae,iwae"),
        (SMALL, "seed=int(1,8)", "--space seed: is not searched"),
        (("model=ae,vae",), "regularizer.kl.weight=log(0.1,1)", "--space for ae: regularizer.kl.weight"),
        (("model=aee",), SPACE, "model=aee: no such option"),
        (("model=ae", "seed=1,2"), SPACE, "--seeds"),
        (("model=ae", "hydra.run.dir=x"), SPACE, "hydra.run.dir: is not for a search"),
        (("model=ae", "--epochs"), SPACE, "--epochs"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_written(
    settings: Sequence[str], space: str, named: str, quick: None
) -> None:
    with pytest.raises(UserError) as refused:
        plan(settings, space, "val/mse", None, 3, 0, True)
    assert named in str(refused.value)
    assert not Path("outputs").exists()


def test_another_search_in_the_folder_is_refused(quick: None) -> None:
    searched(1)
    with pytest.raises(ConfigError) as refused:
        searched(1, space="model.latent_dim=int(2,8)")
    assert f"with the space {SPACE}; --name" in str(refused.value)
    with pytest.raises(ConfigError, match="with the settings model=ae"):
        searched(1, "optimizer=sgd")
    with pytest.raises(ConfigError, match="letters, digits"):
        plan(SMALL, SPACE, "val/mse", "../x", 1, 0, True)
    Path("outputs/searches/mine").mkdir()
    Path("outputs/searches/mine/notes.txt").touch()
    with pytest.raises(ConfigError, match="not the folder of a search"):
        plan(SMALL, SPACE, "val/mse", "mine", 1, 0, True)


def test_seeds_are_for_one_metric(quick: None) -> None:
    with pytest.raises(ConfigError, match=r"--seeds=2: is for one metric"):
        searched(1, metric="val/mse,parameters", seeds=2)


def test_a_metric_that_these_models_lack_ends_the_search_before_training(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "isolated", at_once)
    code, _, err = call("search", *SMALL, "--space", SPACE, "--metric", "val/perplexity")
    assert code == 2
    assert "metric=perplexity: is not computed for these models; choose from loss, nll" in err
    assert len(err.splitlines()) == 1
    assert not list(Path("outputs/searches").iterdir())


def test_optuna_is_asked_for_by_name(call: Call, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = call("search", *SMALL, "--space", SPACE, "--metric", "val/mse")
    assert (code, err) == (2, "scripts/search.py: needs optuna: pip install 'optuna>=5'\n")
