"""A kind of data that the package has never seen trains, evaluates, detects and exports: all it needs is this file."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from autoenc import run
from autoenc.data import Data, DataSpec, Split, hold_out, kinds
from autoenc.data.kinds.kind import REAL, Kind, common
from autoenc.data.split import Examples
from autoenc.estimators.inmemory import compose


@dataclass(frozen=True)
class Clock(Kind):
    """Times of day, as text such as 06:30, on the unit circle: (2,)."""

    offset: float = 0.0  # hours, learnt from data
    name: ClassVar[str] = "clock"
    noun: ClassVar[str] = "times"

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        hours = np.array([int(t[:2]) + int(t[3:]) / 60 for t in raw]) - self.offset
        angle = torch.from_numpy(hours * np.pi / 12).float()
        return Split(torch.stack([angle.cos(), angle.sin()], 1))

    def read(self, path: Path, *options: Any) -> Examples:
        times = path.read_text().split()
        return Examples(self.encode(times), times)

    def decode(self, x: torch.Tensor | np.ndarray) -> list[str]:
        hours = (np.arctan2(np.asarray(x)[:, 1], np.asarray(x)[:, 0]) * 12 / np.pi + self.offset) % 24
        return [f"{int(h):02}:{int(h % 1 * 60):02}" for h in hours]

    def state(self) -> dict[str, Any]:
        return {"offset": self.offset}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Kind:
        return cls(**common(values), offset=values["offset"])


def mornings() -> list[str]:
    """Times between six and nine."""
    minutes = np.random.default_rng(0).integers(360, 540, 300)
    return [f"{m // 60:02}:{m % 60:02}" for m in minutes]


@pytest.mark.usefixtures("operators", "quick_classifiers")
def test_a_new_kind_trains_evaluates_detects_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., tuple[int, str, str]]
) -> None:
    kind = Clock((2,), -1.0, 1.0, offset=7.5)
    monkeypatch.setitem(kinds.KINDS, "clock", f"{__name__}.Clock")
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(Clock=Clock))
    rest, test = hold_out(kind.encode(mornings()), 0.2, 0, "test")
    train, val = hold_out(rest, 0.2, 0, "val")
    data = Data(DataSpec("mornings", kind), train, val, test)
    overrides = ["model=ae", "likelihood=gaussian", "network.hidden=[16]", "model.latent_dim=1", "trainer.epochs=60"]
    summary = run.train(compose([*overrides, "trainer.figures=0"]), tmp_path / "run", {"model": "ae"}, data=data)
    assert summary["test"]["mse"] < 0.1
    monkeypatch.setattr("autoenc.build.build_data", lambda *_: data)

    (tmp_path / "new.txt").write_text("07:10 19:30 08:20")
    code, out, err = call("detect", tmp_path / "run", "--input", tmp_path / "new.txt", "--output", tmp_path / "s.csv")
    assert code == 0, err
    assert "highest: 19:30" in out
    assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("07:10,")
    assert call("evaluate", tmp_path / "run", "--only", "reconstruction", "latent")[0] == 0
    assert call("export", tmp_path / "run", "--output", tmp_path / "deploy")[0] == 0
    assert (tmp_path / "deploy" / "kind.json").exists()
    shutil.rmtree(tmp_path / "run")


def test_what_is_encoded_is_decoded() -> None:
    assert Clock((2,), -1.0, 1.0, offset=7.5).decode(Clock((2,), -1.0, 1.0, offset=7.5).encode(["06:30"]).tensor) == [
        "06:30"
    ]
