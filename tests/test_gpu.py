"""Every model on a GPU, in both precisions, resumed and loaded; skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run, run
from autoenc.config.composed import compose

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU")
MODELS = sorted({path.stem for path in (Path(__file__).parents[1] / "configs" / "model").glob("*.yaml")} - {"miwae"})
NEEDED = {  # miwae needs a table with missing cells
    "m2": ["labels=100"],
    "deep_sad": ["labels=100", "model.objective.anomalies=[3]"],
    "vqgan": ["model.objective.task_steps=5"],
}
COMMON = [f"trainer.device={DEVICE}", "trainer.figures=0", "trainer.batch_size=64", "trainer.epochs=1"]


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_model_trains_resumes_and_reconstructs(model: str, precision: str, tmp_path: Path) -> None:
    config = compose([f"model={model}", *NEEDED.get(model, []), *COMMON, f"trainer.precision={precision}"])
    first = run.train(config, tmp_path / "run", {"model": model})
    assert np.isfinite(list(first["test"].values())).all()
    run.resume(tmp_path / "run", {"epochs": 2})
    loaded, x = load_run(tmp_path / "run", device=DEVICE), np.random.default_rng(0).random((5, 8, 8), np.float32)
    on_cpu = load_run(tmp_path / "run", device="cpu")
    assert next(loaded.model.parameters()).device.type == DEVICE
    if not loaded.given_labels:
        np.testing.assert_allclose(loaded.encode(x), on_cpu.encode(x), atol=1e-2)


@pytest.mark.parametrize("model", ["vae", "ae", "vqvae"])
def test_a_compiled_model_trains(model: str, tmp_path: Path) -> None:
    settings = ["trainer.compile=true", "trainer.precision=bf16", "trainer.epochs=3"]
    summary = run.train(compose([f"model={model}", *COMMON, *settings]), tmp_path / "run", {"model": model})
    assert np.isfinite(list(summary["test"].values())).all()
