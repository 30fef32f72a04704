"""Evaluation: the same twice, without a trace on training, and right where the last batch is smaller."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from autoenc import bottlenecks, likelihoods, networks
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.counts import Counts
from autoenc.data.split import Split
from autoenc.metrics import psnr
from autoenc.noise import Gaussian, Identity, Masking
from autoenc.objective import Objective
from autoenc.regularizers import KL, L1, MMD
from autoenc.schedules import WarmUp
from autoenc.training.evaluation import (
    Evaluation,
    evaluate,
    evaluation_mode,
    latent_health,
    mutual_information,
    prior_mismatch,
    sensitivity,
)

MakeModel, MakeData = Callable[..., Autoencoder], Callable[..., Data]


def everything(data: Data) -> Batch:
    return data.val.take(slice(None))


def run(model: Autoencoder, data: Data, batch_size: int = 4, **terms: object) -> Evaluation:
    return evaluate(model, Objective(terms), data.val, data.spec, batch_size)


@pytest.mark.parametrize("corruption", [None, Masking(0.3)], ids=["clean", "noisy"])
def test_is_the_same_twice_whatever_the_generators_state_and_leaves_it_untouched(
    make_model: MakeModel, make_data: MakeData, corruption: Masking | None
) -> None:
    model, data = make_model(bottlenecks.Gaussian, corruption=corruption), make_data()
    first = run(model, data, kl=KL())
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = run(model, data, kl=KL())
    assert torch.equal(torch.get_rng_state(), before)
    assert first.numbers == second.numbers
    assert first.latent == second.latent
    assert torch.equal(first.codes, second.codes)


@pytest.mark.parametrize("training", [True, False])
def test_puts_the_training_mode_back_and_evaluates_without_it(
    make_model: MakeModel, make_data: MakeData, training: bool
) -> None:
    model, data = make_model(network_options={"norm": "batch"}), make_data()
    modes = []
    model.encoder.register_forward_hook(
        lambda module, args, out: modes.append((module.training, torch.is_grad_enabled()))
    )
    model.train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run(model, data)
    sensitivity(model, data.val)
    assert model.training == training
    assert model.encoder.training == training
    assert {mode for mode, _ in modes} == {False}
    assert not modes[0][1], "no gradients are kept"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "running statistics are not moved"


def test_numbers_are_means_over_examples_whatever_the_batch_size(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(likelihood=likelihoods.Bernoulli()), make_data(val=10)
    batch = everything(data)
    out = model.eval()(batch)
    expected = {
        "nll": out.nll.mean().item(),
        "l1": out.code.z.abs().sum(-1).mean().item(),
        "mse": (model.reconstruct(batch) - batch.x).square().mean().item(),
    }
    expected["loss"] = expected["nll"] + 0.5 * expected["l1"]
    for batch_size in (3, 4, 10, 100):
        assert run(model, data, batch_size, l1=L1(weight=0.5)).numbers == pytest.approx(expected, rel=1e-5)


def test_mse_of_a_vae_is_of_the_mean_code(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(bottlenecks.Gaussian), make_data()
    batch = everything(data)
    x_hat = model.decode(model.encode(batch).mean)
    assert run(model, data).numbers["mse"] == pytest.approx((x_hat - batch.x).square().mean().item(), rel=1e-5)


def test_psnr_is_the_mean_of_each_examples_and_for_images_alone(make_model: MakeModel, make_data: MakeData) -> None:
    data = make_data(shape=(1, 4, 4), low=-1.0, high=3.0)
    model, batch = make_model(shape=(1, 4, 4)), everything(data)
    mse = (model.reconstruct(batch) - batch.x).square().mean((1, 2, 3))
    assert run(model, data).numbers["psnr"] == pytest.approx(psnr(mse, 4.0).mean().item(), rel=1e-4)
    assert "psnr" not in run(make_model(), make_data()).numbers


def test_schedules_stand_at_their_end(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(bottlenecks.Gaussian), make_data()
    numbers = run(model, data, kl=KL(weight=WarmUp(total_steps=1000, end=3.0))).numbers
    assert numbers["loss"] == pytest.approx(numbers["nll"] + 3 * numbers["kl"], rel=1e-5)


NOISY = {"denoise_mse", "denoise_psnr", "noisy_psnr"}


def test_numbers_of_denoising_are_there_with_noise_alone(make_model: MakeModel, make_data: MakeData) -> None:
    images = make_data(shape=(1, 4, 4))
    noisy = run(make_model(shape=(1, 4, 4), corruption=Gaussian(0, 1, std=0.4)), images).numbers
    assert noisy.keys() >= NOISY
    assert not NOISY & run(make_model(shape=(1, 4, 4)), images).numbers.keys()
    assert NOISY & run(make_model(corruption=Masking(0.3)), make_data()).numbers.keys() == {"denoise_mse"}


def test_denoising_is_measured_on_the_examples_that_the_noise_has_changed(
    make_model: MakeModel, make_data: MakeData
) -> None:
    """Others have no noise to remove, and the psnr of 120 dB of their input would dominate a mean."""

    class Some(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0.1 * (x[:, :1, :1, :1] > 0.5)

    data = make_data(shape=(1, 4, 4))
    model, batch = make_model(shape=(1, 4, 4), corruption=Some()), everything(data)
    chosen = batch.x[:, 0, 0, 0] > 0.5
    assert 0 < chosen.sum() < len(chosen)
    some = batch.x[chosen]
    numbers = run(model, data).numbers
    mse = ((some + 0.1).clamp(0, 1) - some).square().mean((1, 2, 3))
    assert numbers["noisy_psnr"] == pytest.approx(psnr(mse, 1.0).mean().item(), rel=1e-5)
    assert numbers["noisy_mse"] == pytest.approx(mse.mean().item(), rel=1e-5)
    denoised = (model.reconstruct(Batch(some + 0.1)) - some).square().mean((1, 2, 3))
    assert numbers["denoise_mse"] == pytest.approx(denoised.mean().item(), rel=1e-5)


def test_denoising_is_measured_against_the_clean_data(make_model: MakeModel, make_data: MakeData) -> None:
    """The noise is large, so that whatever is compared to the wrong side shows."""

    class Shift(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0.5

    data = make_data(shape=(1, 4, 4))
    model, batch = make_model(shape=(1, 4, 4), corruption=Shift()), everything(data)
    shifted = Batch(batch.x, corrupted=batch.x + 0.5)
    numbers = run(model, data).numbers
    assert numbers["mse"] == pytest.approx((model.reconstruct(batch) - batch.x).square().mean().item(), rel=1e-5)
    denoised = (model.reconstruct(shifted) - batch.x).square().mean((1, 2, 3))
    assert numbers["denoise_mse"] == pytest.approx(denoised.mean().item(), rel=1e-5)
    assert numbers["denoise_psnr"] == pytest.approx(psnr(denoised, 1.0).mean().item(), rel=1e-5)
    shown = ((batch.x + 0.5).clamp(0, 1) - batch.x).square().mean((1, 2, 3))
    assert numbers["noisy_psnr"] == pytest.approx(psnr(shown, 1.0).mean().item(), rel=1e-5)
    nll = model.nll(model.encode(shifted).z, batch).mean().item()
    assert numbers["nll"] == pytest.approx(nll, rel=1e-5), "the loss is of corrupted input, as in training"


def test_codes_are_deterministic_and_of_clean_input_with_their_labels(
    make_model: MakeModel, make_data: MakeData
) -> None:
    model, data = make_model(bottlenecks.Gaussian, corruption=Masking(0.5)), make_data(val=10)
    result = run(model, data, batch_size=4)
    chosen = data.val.sample(10).take(slice(None))
    torch.testing.assert_close(result.codes, model.encode(chosen).mean)
    assert torch.equal(result.labels, chosen.y)
    assert sorted(result.labels.tolist()) == list(range(10))


def test_kept_codes_are_a_random_sample_and_statistics_are_of_all(make_model: MakeModel, make_data: MakeData) -> None:
    data = make_data(val=2300)
    result = run(make_model(), data, batch_size=900)
    assert result.codes.shape == (2000, 3)
    assert torch.equal(result.labels, data.val.sample(2000).y)
    for part in (result.labels, result.labels[:500]):  # the first of them are a sample, too
        assert part.double().mean().item() == pytest.approx(2299 / 2, rel=0.1)
    assert result.stats.count == 2300


def test_numbers_of_sorted_and_of_shuffled_rows_agree(make_model: MakeModel) -> None:
    """Of rows sorted by class, the first 1,000 are not the data."""
    classes = torch.arange(4).repeat_interleave(1500)
    x = 3 * torch.eye(6)[classes] + 0.3 * torch.randn(6000, 6)
    model = make_model(bottlenecks.Gaussian)
    order = torch.randperm(6000)
    found = [
        (sensitivity(model, split), mutual_information(model, split, 500), prior_mismatch(model, split, 500))
        for split in (Split(x), Split(x[order]))
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=0.1, atol=0.02)


def test_terms_of_whole_batches_of_sorted_and_of_shuffled_rows_agree(
    make_model: MakeModel, make_data: MakeData
) -> None:
    """Batches of rows that are sorted by class would have one class each, and no code is like the prior then."""
    x = 3 * torch.eye(6)[torch.arange(4).repeat_interleave(100)] + 0.3 * torch.randn(400, 6)
    model, spec = make_model(bottlenecks.Gaussian), make_data().spec
    terms = {"mmd": MMD(weight=1.0), "kl": KL(free_bits=0.3)}
    splits = Split(x), Split(x[torch.randperm(400)])
    found = [evaluate(model, Objective(terms), split, spec, 50).numbers for split in splits]
    assert found[0] == pytest.approx(found[1], rel=0.05, abs=0.03)


def test_the_relative_jacobian_does_not_change_with_the_scale_of_the_code(
    make_model: MakeModel, make_data: MakeData
) -> None:
    model, data = make_model(), make_data()
    found = []
    for _ in range(2):
        latent = latent_health(model, data.val, run(model, data), data.spec, 4)
        found.append((latent["jacobian_norm"], latent["jacobian_relative"]))
        with torch.no_grad():
            model.bottleneck.linear.weight *= 0.1
            model.bottleneck.linear.bias *= 0.1
    assert found[1][0] == pytest.approx(0.1 * found[0][0], rel=1e-4)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4)


def test_perplexity_with_noise_is_of_one_posterior(make_model: MakeModel, make_data: MakeData) -> None:
    """nll and KL of the same, corrupted, input: any other sum bounds nothing."""
    model, data = make_model(bottlenecks.Gaussian, corruption=Masking(0.5)), make_data(val=8)
    result = run(model, data, batch_size=8, kl=KL(free_bits=5.0))
    with evaluation_mode(model):
        ((_, batch),) = data.val.at_random(8)
        code = model.encode(model.corrupt(batch))
    assert code.posterior is not None
    kl = torch.distributions.kl_divergence(code.posterior, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    assert result.numbers["rate"] == pytest.approx(kl.item(), rel=1e-5)
    assert result.numbers["rate"] != pytest.approx(result.latent["kl"], rel=1e-3), "of clean input"


def test_latent_kl_is_the_closed_form_over_the_split(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(bottlenecks.Gaussian), make_data(val=10)
    code = model.encode(everything(data))
    variance = code.posterior.variance
    kl = 0.5 * (code.mean.square() + variance - 1 - variance.log()).sum(-1).mean().item()
    result = run(model, data, batch_size=4, kl=KL(free_bits=5.0))
    assert result.latent["kl"] == pytest.approx(kl, rel=1e-5), "of the posterior itself, without free bits"


def test_sensitivity_is_the_mean_norm_of_the_jacobian(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(), make_data()

    def norm(x: torch.Tensor) -> float:
        jacobian = torch.autograd.functional.jacobian(lambda one: model.encode(Batch(one[None])).mean[0], x)
        return jacobian.square().sum().sqrt().item()

    expected = sum(norm(x) for x in everything(data).x) / 10
    assert sensitivity(model, data.val) == pytest.approx(expected, rel=1e-5)
    before = torch.get_rng_state()
    assert sensitivity(model, data.val) == sensitivity(model, data.val)
    assert torch.equal(torch.get_rng_state(), before)


def test_sensitivity_of_a_large_code_is_estimated_closely(make_model: MakeModel, make_data: MakeData) -> None:
    model, data = make_model(latent_dim=80), make_data(val=200)
    weights = (
        model.bottleneck.linear.weight
        @ torch.diag_embed(1 - torch.tanh(model.encoder[1](everything(data).x)).square())
        @ model.encoder[1].weight
    )  # (B, 80, 6)
    exact = weights.square().sum((1, 2)).sqrt().mean().item()
    assert sensitivity(model, data.val) == pytest.approx(exact, rel=0.05)
    assert not math.isnan(exact)


def test_perplexity_of_bags_of_words_is_named_for_what_is_averaged() -> None:
    """Of all words together, and the mean over documents (Miao et al. 2016); of TF-IDF weights, none."""
    texts = ["a an the", "dogs cats", "dogs dogs dogs dogs cats", "birds"]
    for view in ("counts", "tfidf"):
        kind = Counts.learn(texts, view, 100, 1, True, False)
        split = Split(kind.tokenize(texts).x)
        x = split.take(slice(None)).x
        pair = networks.linear(kind.shape, 2, kind=kind)
        bottleneck = bottlenecks.Deterministic(pair.feature_shape, 2)
        model = Autoencoder(Identity(), pair.encoder, bottleneck, pair.decoder, likelihoods.Multinomial())
        result = evaluate(model, Objective({}), split, DataSpec("texts", kind), 2)
        if view == "tfidf":
            assert not [name for name in result.numbers if "perplexity" in name or name == "words"]
            continue
        nll, words = model(Batch(x)).nll.detach(), x.sum(1)
        assert result.numbers["perplexity"] == pytest.approx((nll.sum() / words.sum()).exp().item(), rel=1e-5)
        each = (nll / words).mean().exp().item()
        assert result.numbers["perplexity_per_document"] == pytest.approx(each, rel=1e-5)
