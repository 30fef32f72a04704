"""Compiled steps train as eager ones do."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainers import MakeData, MakeModel, fit, trainer, weights

from autoenc import build
from autoenc.config.composed import compose
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import Data
from autoenc.data.split import Split
from autoenc.objective import train_step
from autoenc.training import process
from autoenc.training.compiled import CapturedStep, CompiledStep
from autoenc.training.settings import TrainerSettings

CPU = torch.device("cpu")
COMPILE = torch.compile


def uncompiled(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
    return function


def traced(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
    """One graph, as with the default backend, that runs without code generation."""
    return COMPILE(function, backend="aot_eager", fullgraph=True, dynamic=False)


WAY = COMPILE if shutil.which("g++") else traced


def trained(compiled: bool, *overrides: str) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], bool]:
    """Losses and weights of four steps on digits, and whether they were compiled."""
    torch.manual_seed(0)
    parts = build.build(compose(["network.hidden=[8]", "model.latent_dim=4", *overrides]), CPU)
    model, objective, optimizers = parts.model.train(), parts.objective.train(), parts.optimizers
    steps = CompiledStep(model, objective, optimizers, CPU, clip=parts.settings.clip)
    losses = []
    for i, batch in enumerate(list(steps.batches(parts.data.train, 16, seed=0, epoch=0, start=0))[:4]):
        if compiled:
            terms = steps(batch, 100 * i)
        else:
            terms = train_step(model, objective, batch, 100 * i, optimizers, clip=parts.settings.clip)
        losses.append({name: float(value) for name, value in terms.items()})
    return losses, weights(nn.ModuleList([model, objective])), steps.compiled is not None


@pytest.mark.parametrize(
    ("way", "overrides"),
    [
        (
            COMPILE if shutil.which("g++") else traced,
            ["model=vae", "regularizer=[kl_cyclical]", "noise=gaussian", "trainer.clip=1.0"],
        ),
        (uncompiled, ["model=aae"]),
        (uncompiled, ["model=contractive"]),
    ],
    ids=["compiled", "players", "second derivatives"],
)
def test_compiled_steps_equal_eager_ones(
    way: Callable[..., Any], overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", way)
    eager, expected, _ = trained(False, *overrides)
    losses, found, whole = trained(True, *overrides)
    assert whole
    for one, two in zip(losses, eager, strict=True):
        assert one == pytest.approx(two, rel=1e-5)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_only_full_batches_are_compiled(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def counted(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
        return lambda batch: (sizes.append(len(batch)), function(batch))[1]

    monkeypatch.setattr(torch, "compile", counted)
    t = trainer(make_model(), make_data(24), tmp_path, epochs=2, compile=True)
    fit(t)
    assert t.step == 6
    assert sizes == [10, 10, 10], "the first step and batches of 4 run eagerly"


def test_what_cannot_be_compiled_runs_eagerly_and_says_so_once(
    make_model: MakeModel,
    make_data: MakeData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
        def call(batch: Batch) -> None:
            raise RuntimeError("no compiler is installed\nmore lines")

        return call

    def run(model: Autoencoder, data: Data, folder: str, compile: bool) -> dict[str, torch.Tensor]:
        fit(trainer(model, data, tmp_path / folder, compile=compile))
        return weights(model)

    monkeypatch.setattr(torch, "compile", failing)
    expected = run(make_model(), make_data(), "eager", False)
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, "autoenc"):
        found = run(make_model(), make_data(), "compiled", True)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("trainer.compile=true: steps run eagerly")
    assert caplog.messages[0].endswith("no compiler is installed")
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_memory_that_runs_out_is_an_error_also_of_compiled_steps(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(batch: Batch) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, "compile", lambda function, **options: full)
    with pytest.raises(MemoryError):
        fit(trainer(make_model(), make_data(), tmp_path, compile=True))


def test_without_bfloat16_training_is_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TrainerSettings(precision="bf16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING, "autoenc"):
        assert not process.half_precision(settings, CPU)
    assert caplog.messages == [
        "trainer.precision=bf16: this device has no bfloat16 arithmetic; training runs in float32"
    ]
    assert not process.half_precision(TrainerSettings(), CPU)


def test_a_graph_does_not_choose_rows_that_are_redrawn() -> None:
    class OnGpu(torch.Tensor):
        is_cuda = True

    class Binarized(Split):
        redrawn = True

    graph, x = CapturedStep(None, CPU), torch.zeros(4, 1).as_subclass(OnGpu)
    assert graph.reads(Split(x))
    assert not graph.reads(Binarized(x)), "its batches are not the stored rows"
