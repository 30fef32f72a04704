"""Conditional, one-class and dictionary models on tables, vectors and counts: stopped in an epoch, resumed, used."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc import load_run, run
from autoenc.config.composed import compose
from autoenc.errors import Interrupted
from autoenc.training import trainer

pytestmark = pytest.mark.usefixtures("without_figures")

CASES = [
    ("cvae", "table"), ("cvae", "counts"), ("m2", "vectors"), ("m2", "table"), ("deep_sad", "counts"),
    ("topk", "counts"), ("batch_topk", "table"), ("jumprelu", "vectors"), ("gated", "table"), ("matryoshka", "counts"),
]  # fmt: skip
OPTIONS = {
    "m2": ["labels=20"],
    "deep_sad": ["labels=20", "model.objective.anomalies=[b]"],
    **{name: ["model.bottleneck.k=2"] for name in ("topk", "batch_topk", "matryoshka")},
}
DICTIONARIES = ("topk", "batch_topk", "jumprelu", "gated", "matryoshka")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Three files of 110 examples of the classes a and b."""
    folder, random = tmp_path_factory.mktemp("family"), np.random.default_rng(0)
    y = random.choice(["a", "b"], 110)
    x = random.normal(size=(110, 5)) + 2 * (y == "b")[:, None]
    np.savez(folder / "vectors.npz", x=x.astype(np.float32), y=y)
    words = [" ".join(random.choice([f"{label}{i}" for i in range(6)] + ["the"], 8)) for label in y]
    pd.DataFrame({"text": words, "label": y}).to_csv(folder / "counts.csv", index=False)
    table = pd.DataFrame(x[:, :3], columns=list("pqr")).assign(colour=np.where(x[:, 0] > 1, "red", "blue"), label=y)
    table.to_csv(folder / "table.csv", index=False)
    return {
        "vectors": ["data=arrays", f"data.path={folder / 'vectors.npz'}"],
        "counts": ["data=bag_of_words", f"data.path={folder / 'counts.csv'}"],
        "table": ["data=table", f"data.path={folder / 'table.csv'}", "data.label=label"],
    }


@pytest.mark.parametrize(("model", "kind"), CASES)
def test_a_model_is_stopped_resumed_and_used(
    model: str, kind: str, data: dict[str, list[str]], call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = [] if model in DICTIONARIES else ["network.hidden=[8]"]
    config = compose(
        [f"model={model}", *data[kind], *OPTIONS.get(model, []), *hidden, "model.latent_dim=16",
         "trainer.batch_size=32", "trainer.epochs=2", "trainer.figures=0", "trainer.threads=1", "trainer.device=cpu"]
    )  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run.train(config, whole, {"model": model})
    step = trainer.train_step

    def interrupted(*args: Any, **settings: Any) -> Any:
        result = step(*args, **settings)
        if args[3] == 4:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "train_step", interrupted)
        with pytest.raises(Interrupted):
            run.train(config, stopped, {"model": model})
    run.resume(stopped)
    one, two = (torch.load(each / "checkpoints" / "last.pt", weights_only=True) for each in (whole, stopped))
    assert one["progress"]["step"] == two["progress"]["step"] == 6
    for part in ("model", "objective"):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    loaded = load_run(stopped, "cpu")
    assert np.isfinite(loaded.codes(loaded.data.test)).all()
    for script, args in (("detect", ()), ("generate", ("--count", 3)), ("evaluate", ("--only", "reconstruction"))):
        code, _, err = call(script, stopped, *args, "--device", "cpu")
        assert code == 0, err
