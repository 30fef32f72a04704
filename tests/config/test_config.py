"""Refusals: one line each, with the key as it is typed, the value, and what would be right."""

import collections.abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import hydra
import pytest
from omegaconf import DictConfig

from autoenc.config import checks as config
from autoenc.config import schema, signatures
from autoenc.errors import ConfigError, suggest

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield lambda *overrides: hydra.compose("config", overrides=list(overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=vae", "+regularizer.kl.wieght=2"],
            "regularizer.kl.wieght: KL has no option 'wieght'; did you mean 'weight'?",
        ),
        (["+network.hiden=[3]"], "network.hiden: mlp has no option 'hiden'; did you mean 'hidden'?"),
        (["noise=masking", "+noise.std=1"], "noise.std: Masking has no option 'std'; choose from p"),
        (["+noise.p=0.1"], "noise.p: Identity has no option 'p'; it takes no options"),
        (
            ["model=masked", "network=linear"],
            "network.width: linear has no option 'width'; choose from normalize, unit_norm; network=gru, network=seq",
        ),
        (["+optimizer.learning_rate=1"], "optimizer.learning_rate: Adam has no option 'learning_rate'; "),
        (["network.hidden=12"], "network.hidden=12: must be a list in brackets, each a whole number"),
        (["network.hidden=[12,a]"], "network.hidden=[12, 'a']: must be a list in brackets, each a whole number"),
        (["network.hidden=[1.5]"], "network.hidden=[1.5]: must be a list in brackets, each a whole number"),
        (["network.norm=bach"], "network.norm=bach: must be one of none, batch, layer"),
        (["noise=gaussian", "noise.std=much"], "noise.std=much: must be a number"),
        (["noise=gaussian", "noise.std=true"], "noise.std=True: must be a number"),
        (["noise=gaussian", "noise.clip=1"], "noise.clip=1: must be true or false"),
        (["noise=gaussian", "noise.std=null"], "noise.std: must be a number"),
        (["model=topk", "model.bottleneck.k=2.5"], "model.bottleneck.k=2.5: must be a whole number"),
        (["model=vae", "regularizer.kl.weight=big"], "regularizer.kl.weight=big: must be a number or a schedule"),
        (
            ["model=vae", "regularizer=[kl_warmup]", "regularizer.kl.weight.fraction=a"],
            "regularizer.kl.weight.fraction=a: must be a number",
        ),
        (
            ["model=vae", "regularizer=[kl_warmup]", "+regularizer.kl.weight.total_steps=9"],
            "regularizer.kl.weight.total_steps=9: cannot be set: it follows from other parts",
        ),
        (["+network.latent_dim=3"], "network.latent_dim=3: cannot be set: it follows from other parts"),
        (
            ["+regularizer.l1.weight=2"],
            "regularizer.l1: has settings but is not among the chosen terms; add it: regularizer=[l1]",
        ),
        (
            ["model=vae", "+regularizer.l1.weight=2"],
            "regularizer.l1: has settings but is not among the chosen terms; add it: regularizer=[kl,l1]",
        ),
        (["noise._target_=os.system"], "noise._target_=os.system: must begin with autoenc.noise. or torch.nn."),
        (
            ["data._target_=autoenc.files.write_text"],
            "data._target_=autoenc.files.write_text: must begin with autoenc.data.",
        ),
        (
            ["data._target_=autoenc.data.sets.torchvision_images._download"],
            "data._target_=autoenc.data.sets.torchvision_images._download: is private",
        ),
        (
            ["data._target_=autoenc.data.sets.arrays.Path"],
            "data._target_=autoenc.data.sets.arrays.Path: no such class",
        ),
        (
            ["data._target_=autoenc.data.sets.arrays.np.load"],
            "data._target_=autoenc.data.sets.arrays.np.load: no such class",
        ),
        (
            ["+noise.p._target_=autoenc.noise.Masking", "noise=masking"],
            "noise.p._target_=autoenc.noise.Masking: must begin with autoenc.schedules.",
        ),
        (
            ["noise._target_=autoenc.noise.Maskin"],
            "noise._target_=autoenc.noise.Maskin: no such class or function",
        ),
        (["noise._target_=null"], "noise: has no _target_: choose an option of this group"),
        (["+noise._partial_=true"], "noise._partial_"),
        (["+noise._args_=[1]"], "noise._args_"),
        (["seed=-1"], "seed=-1: must be 0 or more"),
        (["data=shapes", "data.data_seed=-1"], "data.data_seed=-1: must be 0 or more"),
        (["model.latent_dim=0"], "model.latent_dim=0: must be 1 or more"),
        (["trainer.epochs=0"], "trainer.epochs=0: must be 1 or more"),
        (["trainer.lr_schedule=cosin"], "trainer.lr_schedule=cosin: must be one of constant, cosine, staged, plateau"),
        (["trainer.precision='16'"], "trainer.precision=16: must be one of 32, bf16"),
        (["trainer.warmup=1"], "trainer.warmup=1.0: must lie in [0, 1)"),
        (["model.latent_dim='???'"], "model.latent_dim: must be given"),
        (["network.activation=${nothing}"], "network.activation: "),
        (["optimizer.lr=fast"], "optimizer.lr=fast: must be a number"),
        (["optimizer.fused=2"], "optimizer.fused=2: must be true or false or null"),
        (["+speed=3"], "speed: no such key; did you mean 'seed'?"),
        (["+model.latent=3"], "model.latent: no such key; did you mean 'latent_dim'?"),
    ],
    ids=lambda v: v[-1] if isinstance(v, list) else "",
)
def test_refusals(compose: Compose, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.check(compose(*overrides))
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_required_option_that_is_not_given_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^data\.name: .*DataSpec"):
        config.check_node("data", {"_target_": "autoenc.data.DataSpec"})


def test_a_checked_config_is_plain_and_complete(compose: Compose) -> None:
    checked = config.check(compose("model=vae", "regularizer=[kl_warmup,l1]", "seed=5"))
    assert checked["seed"] == 5
    assert checked["trainer"]["lr_schedule"] == "constant"
    assert list(checked["regularizer"]) == ["kl", "l1"]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (int, float, str, bool)

    assert plain(checked), "a run directory keeps it, and load_run reads it"


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        ("1", int, False),
        (1, float, True),
        (1.5, float, True),
        (True, float, False),
        (None, float, False),
        ("1e-3", float, False),
        (True, bool, True),
        (1, bool, False),
        ("x", str, True),
        (1, str, False),
        (None, None, True),
        (0, None, False),
        (None, int | None, True),
        (3, int | None, True),
        ("a", int | None, False),
        ([1, 2], Sequence[int], True),
        ((1, 2), Sequence[int], True),
        ([1, 2.5], Sequence[int], False),
        ([True], Sequence[int], False),
        (3, Sequence[int], False),
        ("12", Sequence[int], False),
        ("12", Sequence[str], False),
        ([], Sequence[int], True),
        ([0.9, 0.999], tuple[float, float], True),
        ([0.9, "b"], tuple[float, float], False),
        ("none", Literal["none", "batch"], True),
        ("bach", Literal["none", "batch"], False),
        (None, Literal["none", "batch"], False),
        ({"a": 1}, dict[str, Any], True),
        ([1], dict[str, Any], False),
        (2, float | Callable[[float], float], True),
        ("big", float | Callable[[float], float], False),
        ({"start": 0}, float | Callable[[float], float], False),
        ("anything", Any, True),
    ],
)
def test_conforms(value: object, annotation: Any, fits: bool) -> None:
    assert signatures.conforms(value, annotation) == fits


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float, "a number"),
        (int | None, "a whole number or null"),
        (Sequence[float], "a list in brackets, each a number"),
        (Literal["a", "b"], "one of a, b"),
        (float | collections.abc.Callable[[float], float], "a number or a schedule"),
    ],
)
def test_describe_says_it_in_words(annotation: Any, words: str) -> None:
    assert signatures.describe(annotation).startswith(words)


def test_suggest_names_the_nearest_or_all() -> None:
    assert suggest("wieght", ["weight", "free_bits"]) == "did you mean 'weight'?"
    assert suggest("zzz", ["b", "a"]) == "choose from a, b"
    assert suggest("zzz", []) == "it takes no options"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=vae", "model.latent_dim=8"], "model=vae,latent_dim=8"),
        (["+regularizer.kl.weight=4", "++a/b=c d"], "weight=4,a_b=cd"),
        (["network.hidden=[128,64]"], "hidden=128,64"),
        ([], "run"),
        (["data.path=../../etc/x y"], "path=.._.._etc_xy"),
    ],
)
def test_short_names_of_sweep_jobs_are_readable_and_safe(overrides: list[str], name: str) -> None:
    assert schema.short_name(overrides) == name
    assert len(schema.short_name(["a=" + "x" * 500])) <= 80
    assert len(schema.short_name(["a=" + "𠮷" * 500]).encode()) <= 200
