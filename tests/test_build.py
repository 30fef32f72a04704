"""Joining parts: what fits together, and the one line that says what does not."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

from autoenc import build
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.core import Autoencoder
from autoenc.data import DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.tokens import Tokens
from autoenc.data.kinds.vector import Vector
from autoenc.errors import ConfigError
from autoenc.objective import Objective
from autoenc.schedules import WarmUp

Compose = Callable[..., dict[str, Any]]
IMAGES = DataSpec("images", Image((1, 8, 8), 0.0, 1.0))
VECTORS = DataSpec("vectors", Vector((5,), -3.0, 3.0))
TEXTS = DataSpec("texts", Tokens((8,), 0.0, 9.0, tokenizer=Tokenizer(WordLevel({"<pad>": 0}))))


def of(spec: DataSpec, **changes: Any) -> DataSpec:
    """The description of other data of the same kind."""
    return replace(spec, kind=replace(spec.kind, **changes))


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield lambda *overrides: config.check(hydra.compose("config", overrides=list(overrides)))


def make_all(checked: dict[str, Any], spec: DataSpec) -> tuple[Autoencoder, Objective]:
    model = build.build_model(checked, spec)
    objective = build.build_objective(checked, model, spec, total_steps=200, num_train=100)
    build.build_optimizers(checked, objective.players(model))
    return model, objective


@pytest.mark.parametrize(
    ("overrides", "spec", "message"),
    [
        (
            ["network=conv"],
            of(VECTORS, low=0.0, high=1.0),
            "network: conv needs images or series; the data are vectors of 5 ",
        ),
        (
            ["model=vqgan"],
            VECTORS,
            "model.objective: VQGAN needs images or series, and vectors has vectors; use model=vae",
        ),
        (
            ["model=vaegan"],
            TEXTS,
            "model.objective: VAEGAN needs images or series, and texts has token ids; use model=vae",
        ),
        (
            ["model=masked"],
            TEXTS,
            "model.objective: Masked needs images, series, vectors or tables, and texts has token ids;",
        ),
        (["network=conv"], of(IMAGES, shape=(1, 7, 9)), "network: conv needs images of at least 8x8, got 7x9"),
        (["network=conv", "network.channels=[1,2,3,4]"], IMAGES, "network.channels=[1, 2, 3, 4]: too many stages"),
        (
            ["likelihood=bernoulli"],
            VECTORS,
            "likelihood: Bernoulli needs values in [0, 1]; vectors has -3 to 3; scale the data",
        ),
        (["likelihood=gaussian", "likelihood.output=sigmoid"], VECTORS, "likelihood: Gaussian needs values in [0, 1]"),
        (["regularizer=[kl]"], IMAGES, "regularizer=kl: needs a posterior; the bottleneck Deterministic"),
        (
            ["regularizer=[kl_sparsity]"],
            IMAGES,
            "regularizer=kl_sparsity: needs codes in (0, 1): set model.bottleneck.activation=sigmoid",
        ),
        (["regularizer=[auxk]"], IMAGES, "regularizer=auxk: revives units of a sparse bottleneck"),
        (
            ["model=contractive", "network.norm=batch"],
            IMAGES,
            "regularizer=jacobian: needs an encoder without batch statistics",
        ),
        (
            ["model=topk", "model.bottleneck.k=999"],
            IMAGES,
            "model.bottleneck.k=999: must lie in [1, model.latent_dim=256]",
        ),
        (["noise=masking", "noise.p=1.5"], IMAGES, "noise.p=1.5: must lie between 0 and 1"),
        (["model=vae", "regularizer.kl.free_bits=-1"], IMAGES, "regularizer.kl.free_bits=-1: must be 0 or more"),
        (
            ["model=vae", "regularizer=[kl_warmup]", "regularizer.kl.weight.fraction=0"],
            IMAGES,
            "regularizer.kl.weight.fraction=0: must lie in (0, 1]",
        ),
        (["model=vae", "regularizer.kl.weight=inf"], IMAGES, "regularizer.kl.weight=inf: must be finite"),
        (
            ["model=vae", "regularizer=[kl_warmup]", "regularizer.kl.weight.end=nan"],
            IMAGES,
            "regularizer.kl.weight.end=nan: must be finite",
        ),
        (["optimizer.lr=-1.0"], IMAGES, "optimizer: Invalid learning rate: -1.0"),
        (["optimizer=sgd", "optimizer.momentum=-0.5"], IMAGES, "optimizer: Invalid momentum value: -0.5"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)
def test_what_does_not_fit_is_refused_by_the_key_as_it_is_typed(
    compose: Compose, overrides: list[str], spec: DataSpec, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_all(compose(*overrides), spec)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_batch_statistics_of_single_examples_are_refused(compose: Compose) -> None:
    config = compose("network.norm=batch", "trainer.batch_size=1")
    with pytest.raises(ConfigError, match=r"^trainer\.batch_size=1: must be 2 or more .*network\.norm=batch"):
        build.build(config, torch.device("cpu"))


def test_constructors_get_what_follows_from_other_parts(compose: Compose) -> None:
    options = ["model=vae", "regularizer=[kl_warmup]", "noise=salt_pepper", "likelihood=gaussian", "model.latent_dim=7"]
    model, objective = make_all(compose(*options), of(IMAGES, shape=(1, 8, 12), low=-2.0, high=5.0))
    assert objective.regularizers["kl"].weight == WarmUp(total_steps=200)
    assert (model.noise.low, model.noise.high) == (-2.0, 5.0)
    assert model.bottleneck.latent_shape == (7,)
    assert model.decode(torch.zeros(1, 7)).shape == (1, 1, 8, 12)


def test_dictionaries_start_tied(compose: Compose) -> None:
    model, _ = make_all(compose("model=topk"), IMAGES)
    torch.testing.assert_close(model.bottleneck.linear.weight.T, model.decoder[0].atoms)


def test_only_our_own_and_torchs_parts_are_built() -> None:
    with pytest.raises(ConfigError, match=r"^noise\._target_=os\.system: must begin with autoenc\."):
        build.make("noise", {"_target_": "os.system", "command": "true"}, {})


def test_players_that_share_a_parameter_are_refused(compose: Compose) -> None:
    shared = nn.Linear(2, 2)
    with pytest.raises(AssertionError, match="players model and critic share a parameter"):
        build.build_optimizers(compose(), {"model": nn.Sequential(shared, nn.Linear(2, 1)), "critic": shared})


def test_players_must_cover_what_learns(compose: Compose, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 5), dtype=np.float32))
    checked = compose("data=arrays", f"data.path={tmp_path}/x.npy", "network.hidden=[4]")

    class Forgetful(Objective):
        def players(self, model: Autoencoder) -> dict[str, nn.Module]:
            return {"model": model.encoder}

    original = build.build_objective
    try:
        build.build_objective = lambda *args, **kwargs: Forgetful({})
        with pytest.raises(AssertionError, match="do not cover every parameter"):
            build.build(checked, torch.device("cpu"))
    finally:
        build.build_objective = original
    parts = build.build(checked, torch.device("cpu"))
    learning = {id(p) for p in parts.model.parameters()}
    assert {id(p) for group in parts.optimizers["model"].param_groups for p in group["params"]} == learning
    mean = parts.data.train.mean()
    shown = parts.model.decode(torch.zeros(1, 16))[0]
    torch.testing.assert_close(shown, mean)  # the first reconstruction


def test_a_monitor_that_evaluation_does_not_give_is_refused(compose: Compose) -> None:
    from autoenc.run import check_monitor

    for monitor, fits in (("mse", True), ("psnr", True), ("denoise_mse", False), ("los", False)):
        parts = build.build(compose(f"trainer.monitor={monitor}"), torch.device("cpu"))
        if fits:
            check_monitor(parts)
            continue
        with pytest.raises(ConfigError, match=rf"^trainer\.monitor={monitor}: must be one of loss, nll, mse, psnr$"):
            check_monitor(parts)


def test_values_of_every_split_must_suit_the_likelihood(compose: Compose, tmp_path: Path) -> None:
    """Training rows in [0, 1] do not speak for the test rows."""
    x = np.random.default_rng(0).random((40, 5)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, x_test=x + 0.5)
    checked = compose("data=arrays", f"data.path={tmp_path / 'a.npz'}", "likelihood=bernoulli")
    with pytest.raises(ConfigError, match=r"^likelihood: Bernoulli needs values in \[0, 1\]; the test split has 0\.5"):
        build.build(checked, torch.device("cpu"))


def test_the_objective_is_given_the_sizes_that_authors_may_ask_for(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = (Path(__file__).parents[1] / "docs" / "extending.md").read_text().partition("Sizes that follow")[2]
    names = re.findall(r"`(\w+)`", promised.partition("\n- ")[0])
    given: dict[str, set[str]] = {}
    make = build.make

    def noted(path: str, node: Any, values: Any) -> Any:
        given.setdefault(path.partition(".")[2] or path, set()).update(values)
        return make(path, node, values)

    monkeypatch.setattr(build, "make", noted)
    checked = compose("model=vae", "network.hidden=[8]")
    model = build.build_model(checked, IMAGES)
    build.build_objective(checked, model, IMAGES, 10, 10)
    build.build_model(compose("model=cvae", "network.hidden=[8]"), replace(IMAGES, classes=("a", "b")))
    of_objective = {"input_shape", "latent_dim", "latent_shape", "total_steps", "regularizers", "model"}
    assert of_objective <= given["objective"] & set(names)
    assert set(names) <= set.union(*given.values())
