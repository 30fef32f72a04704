"""Estimates of what a sweep takes."""

import math
from pathlib import Path

import pytest

from autoenc.config.stored import read_config
from autoenc.errors import UserError
from autoenc.files import read_json
from autoenc.sweeps import forecast
from autoenc.sweeps.forecast import Cost, Forecast


def test_a_trial_knows_the_size_of_a_run_and_roughly_its_time(ae_run: Path, tmp_path: Path) -> None:
    cost = forecast.measure(read_config(ae_run), {"model": "ae"}, tmp_path)
    size = sum(path.stat().st_size for path in ae_run.rglob("*") if path.is_file())
    assert cost.bytes == pytest.approx(size, rel=0.25)
    assert 1 / 5 < cost.seconds / read_json(ae_run / "summary.json")["perf"]["seconds"] < 5
    assert not cost.early


def test_a_job_that_cannot_run_is_named_before_the_sweep() -> None:
    found = forecast.forecast([["model=topk", "model.latent_dim=2"]], {})
    assert found.costs[0].error.startswith("model.bottleneck.k=8: must lie in [1, model.latent_dim=2]")
    assert found.text == "time and size are not known"


def test_a_sweep_that_hydra_refuses_is_not_announced() -> None:
    with pytest.raises(UserError, match=r"network\.hidden"):
        forecast.refusals([["model=ae"], ["model=topk", "network.hidden=[16]"]])


def test_each_setting_is_checked_once_and_all_jobs_only_if_none_of_these_can_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[list[str]] = []

    def refused(job: list[str]) -> str:
        checked.append(job)
        return "no" if {"model=b", "trainer.epochs=-1"} & {*job} else ""

    monkeypatch.setattr(forecast, "_refused", refused)
    jobs = [[f"model={m}", f"trainer.epochs={n}", f"seed={s}"] for m in "abc" for n in (1, -1) for s in (0, 1)]
    assert forecast.refusals(jobs) == dict.fromkeys([2, 3, 4, 5], "no")
    assert checked == [jobs[0], jobs[2], jobs[4], jobs[8]]
    assert forecast.refusals(jobs[2:4] + jobs[4:8]) == dict.fromkeys(range(6), "no")


def tried(jobs: list[list[str]], monkeypatch: pytest.MonkeyPatch, seconds: float, launcher: dict[str, int]) -> Forecast:
    """The forecast of jobs whose trials take some seconds by a clock that only they move."""
    now = [0.0]

    def trial(job: list[str]) -> Cost:
        now[0] += seconds
        return Cost(100.0 if "model=ae" in job else 300.0, 1e6, early=True)

    monkeypatch.setattr(forecast, "_tried", trial)
    monkeypatch.setattr(forecast, "preload", lambda: None)
    monkeypatch.setattr(forecast.time, "monotonic", lambda: now[0])
    return forecast.forecast(jobs, launcher)


def test_jobs_are_tried_as_long_as_trials_take_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [[f"model={model}", f"model.latent_dim={k}", f"seed={seed}"]
            for model in ("ae", "vae") for k in (2, 4) for seed in (0, 1)]  # fmt: skip
    found = tried(jobs, monkeypatch, 1.0, {})
    assert found.tried == 4, "one of each pair of seeds"
    assert [cost.seconds for cost in found.costs] == [100.0] * 4 + [300.0] * 4
    assert found.text == "about 27 min and 8 MB; estimated from a few steps of 4 of them; less if they stop early"
    assert tried(jobs, monkeypatch, 50.0, {}).tried == 2, "one of each model"
    first = tried(jobs, monkeypatch, 500.0, {})
    assert first.tried == 1
    assert [cost.seconds for cost in first.costs] == [100.0] * 8


def test_jobs_at_once_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [["model=ae", f"seed={seed}"] for seed in range(4)]
    assert "about 2 min and 4 MB, 3 at once" in tried(jobs, monkeypatch, 0.0, {"n_jobs": 3}).text
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert tried(jobs, monkeypatch, 0.0, {"n_jobs": -2}).at_once == 3
    assert tried(jobs[:1], monkeypatch, 0.0, {"n_jobs": 8}).text.startswith("about 100 s and 1 MB; ")
    assert [forecast.span(s) for s in (1.2, 119, 600, 9000)] == ["2 s", "119 s", "10 min", "2.5 h"]
    assert math.isnan(Cost().seconds)
