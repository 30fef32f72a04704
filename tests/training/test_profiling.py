"""The time of training steps by their phases."""

import gzip
import json
import re
from pathlib import Path

import pytest
import torch
from trainers import MakeData, MakeModel, fit, same, trainer, weights

from autoenc.training.profiling import TRACE


@pytest.mark.parametrize(("epochs", "recorded"), [(4, 7), (60, 50)], ids=["short run", "long run"])
def test_a_profile_has_the_time_of_each_phase_and_a_trace(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, epochs: int, recorded: int
) -> None:
    t = trainer(make_model(), make_data(18), tmp_path / "checkpoints", epochs=epochs, profile=True, evaluate_every=2)
    lines = fit(t).lines
    start = next(i for i, line in enumerate(lines) if line.startswith("profile"))
    assert lines[start].startswith(f"profile of {recorded} steps, ")
    rows = [re.fullmatch(r"  (\w+) +([\d.]+) ms +([\d.]+)%", line) for line in lines[start + 1 : start + 7]]
    assert [row and row[1] for row in rows] == ["data", "forward", "backward", "optimizer", "logging", "evaluation"]
    assert sum(float(row[3]) for row in rows if row) == pytest.approx(100, abs=0.5)
    total = float(lines[start].split()[4])
    assert sum(float(row[2]) for row in rows if row) == pytest.approx(total, abs=0.01)
    events = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))["traceEvents"]
    names = [event.get("name") for event in events if event.get("cat") == "user_annotation"]
    assert names.count("forward") == names.count("backward") == names.count("optimizer") == recorded


def test_a_profile_changes_no_number(make_model: MakeModel, make_data: MakeData, tmp_path: Path) -> None:
    def trained(**settings: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = make_model()
        fit(trainer(model, make_data(), tmp_path / "checkpoints", **settings))
        assert (tmp_path / TRACE).exists() == ("profile" in settings)
        return weights(model)

    assert same(trained(), trained(profile=True))
