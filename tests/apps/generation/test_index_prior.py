"""The prior over indices: it is a distribution, it is causal, and it belongs to one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.generation import density, index_prior
from autoenc.apps.protocol.evaluate import evaluate
from autoenc.errors import DataError, UserError
from autoenc.networks.causal import CausalTransformer
from autoenc.training.process import half_precision
from autoenc.training.settings import TrainerSettings


def transformer(length: int = 3, symbols: int = 3, groups: int = 1) -> CausalTransformer:
    """One whose weights are not zero."""
    model = CausalTransformer(length, symbols, groups, hidden=8, layers=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("symbols", "groups"), [(3, 1), (3, 3), (2, 2)])
def test_probabilities_of_all_sequences_sum_to_one_and_samples_have_them(symbols: int, groups: int) -> None:
    model = transformer(symbols=symbols, groups=groups)
    every = torch.cartesian_prod(*[torch.arange(symbols)] * 3)
    p = model.log_prob(every).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert p.max().item() > 2 / len(every), "not uniform"
    drawn = model.sample(20_000)
    found = torch.bincount((drawn * symbols ** torch.tensor([2, 1, 0])).sum(1), minlength=len(every)) / 20_000
    torch.testing.assert_close(found, p.detach(), atol=0.012, rtol=0)
    greedy = model.sample(1, temperature=0.0)[0]
    assert model(every).argmax(-1)[(every == greedy).all(1)][0].tolist() == greedy.tolist()


def test_logits_depend_on_the_indices_before_alone() -> None:
    model = transformer(length=5, symbols=4, groups=2)
    seen: list[torch.Tensor] = []

    def kept(module: torch.nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    model.embedding.register_forward_hook(kept)
    logits = model(torch.randint(4, (1, 5)))
    for t in range(5):
        (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), seen[0], retain_graph=True)
        reached = gradient[0].abs().sum(-1) > 0  # the first embedding begins the sequence, number s is index s - 1
        assert reached.tolist() == [s <= t for s in range(5)]


@pytest.fixture(scope="module")
def grid_run(train_run: Callable[..., Path]) -> Path:
    options = ("network.hidden=null", "network.channels=[8,8]", "trainer.steps=60", "trainer.threads=1")
    return train_run("model=vqvae", *options, "model.bottleneck.codes=16", "model.latent_dim=4")


def test_the_prior_is_fitted_kept_and_sampled_from(
    grid_run: Path, copied: Callable[[Path], Path], call: Callable[..., tuple[int, str, str]]
) -> None:
    path = copied(grid_run)
    code, out, err = call("fit_prior", path, "--epochs", 4, "--hidden", 32)
    assert (code, err) == (0, "")
    assert "prior_nll" in out
    found = json.loads((path / "fit_prior" / "fit_prior.json").read_text())
    for split in ("val", "test"):
        assert found[split]["autoregressive"] < found[split]["independent"] < found[split]["uniform"]
    run = load_run(path, "cpu")
    source = density.of(run)
    assert source.text == "the autoregressive prior"
    z = source.sample(9, seed=3)
    assert np.array_equal(z, source.sample(9, seed=3))
    assert np.array_equal(run.project(z), z)
    assert not np.array_equal(z, density.of(run, "prior").sample(9, seed=3))
    assert call("fit_prior", path)[0] == 2, "it exists"
    code, _, _ = call("generate", path, "--count", 4)
    assert code == 0
    assert json.loads((path / "generate" / "generate.json").read_text())["density"] == "the autoregressive prior"
    generation = evaluate(load_run(path, "cpu"), ["generation"])["generation"]
    assert generation["density"] == "the autoregressive prior"
    assert {"samples", "untrained", "validation"} <= generation.keys(), "the untrained network has its own prior"
    with pytest.raises(UserError, match=r"no smooth density fits.*; --density prior samples them"):
        density.of(run, "gaussian")


def test_it_is_the_same_for_the_same_seed_and_its_nats_are_those_of_its_file(
    grid_run: Path, copied: Callable[[Path], Path]
) -> None:
    run = load_run(copied(grid_run), "cpu")
    fitted = index_prior.fit(run, epochs=1, hidden=8, layers=1)
    assert index_prior.fit(run, epochs=1, hidden=8, layers=1).nats == fitted.nats
    (run.path / "fit_prior").mkdir()
    index_prior.save(fitted, run, run.path / "fit_prior" / "weights.pt")
    loaded = index_prior.load(run)
    assert loaded is not None
    assert index_prior.nats(loaded, index_prior.indices(run, "test")) == fitted.nats["test"]["autoregressive"]
    with torch.no_grad():
        run.model.bottleneck.linear.weight.add_(1e-3)
    with pytest.raises(DataError, match=r"weights\.pt: was fitted to other codes.*fit_prior\.py .* --force"):
        density.of(run)


def test_it_is_trained_in_the_precision_of_the_run_and_evaluated_in_float32(
    grid_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen, forward = load_run(grid_run, "cpu"), set(), CausalTransformer.forward

    def watched(model: CausalTransformer, index: torch.Tensor) -> torch.Tensor:
        seen.add((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return forward(model, index)

    monkeypatch.setattr(CausalTransformer, "forward", watched)
    for precision in ("32", "bf16"):
        seen.clear()
        run.config["trainer"]["precision"] = precision
        index_prior.fit(run, epochs=1, hidden=8, layers=1)
        assert seen == {(True, half_precision(TrainerSettings(precision=precision), run.device)), (False, False)}


def test_a_damaged_file_is_refused(grid_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(grid_run), "cpu")
    (run.path / "fit_prior").mkdir()
    path = run.path / "fit_prior" / "weights.pt"
    good = {"codes": index_prior.codes_of(run), "sizes": {"hidden": 8, "layers": 1}, "model": {}}
    for bad in (good, good | {"sizes": {"hidden": 10**6, "layers": 1}}, good | {"sizes": {"hidden": 6, "layers": 1}}):
        torch.save(bad, path)
        with pytest.raises(DataError, match=r"weights\.pt: damaged"):
            density.of(run)
    path.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"weights\.pt: damaged"):
        density.of(run)


def test_a_single_index_has_a_categorical_prior_and_numbers_have_none(
    train_run: Callable[..., Path], ae_run: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    path = train_run("model=fsq", "network=mlp", "network.hidden=[16]", "trainer.epochs=3")
    code, out, _ = call("fit_prior", path, "--epochs", 3)
    assert code == 0
    assert "a single index: the prior is a categorical distribution" in out
    found = json.loads((path / "fit_prior" / "fit_prior.json").read_text())
    assert found["best_epoch"] == 0
    assert found["test"]["autoregressive"] == pytest.approx(found["test"]["independent"], abs=1e-4)
    code, _, err = call("fit_prior", ae_run)
    assert (code, err.count("\n")) == (2, 1)
    assert "has no indices; fit_prior is for discrete codes" in err
    with pytest.raises(UserError, match=r"--density autoregressive: .* is for discrete codes"):
        density.of(load_run(ae_run, "cpu"), "autoregressive")
    with pytest.raises(UserError, match="--hidden=6: must be a multiple of 4"):
        index_prior.fit(load_run(path, "cpu"), hidden=6)


def test_bits_have_a_prior_over_bits(train_run: Callable[..., Path]) -> None:
    run = load_run(train_run("model=binary", "model.latent_dim=6", "network.hidden=[16]", "trainer.epochs=3"), "cpu")
    fitted = index_prior.fit(run, epochs=2, hidden=16, layers=1)
    every = torch.cartesian_prod(*[torch.arange(2)] * 6)
    assert float(fitted.model.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert fitted.nats["val"]["autoregressive"] <= fitted.nats["val"]["independent"]
    assert fitted.nats["val"]["uniform"] == pytest.approx(6 * np.log(2))
