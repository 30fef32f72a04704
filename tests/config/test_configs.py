"""Every YAML composes, fits its constructor and says what it is; models and networks combine and learn."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import composition
import hydra
import pytest
import torch
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autoenc import build
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.core import Batch
from autoenc.data import Data, digits
from autoenc.objective import train_step
from autoenc.training.settings import TrainerSettings

Compose = Callable[..., dict[str, Any]]
FILES = sorted(
    path.relative_to(schema.CONFIGS) for group in schema.GROUPS for path in (schema.CONFIGS / group).glob("*")
)
OPTIONS = [(path.parent.name, path.stem) for path in FILES]
MODELS, NETWORKS = ([name for group, name in OPTIONS if group == wanted] for wanted in ("model", "network"))
OF_SERIES = ("conv1d", "conv1d_spatial", "gru", "transformer")  # see test_series_networks.py
MODELS.remove("miwae")  # reads tables: tests/apps/generation/test_impute.py
NETWORKS = [name for name in NETWORKS if not name.startswith("sequence")]  # those read texts: tests/test_sequence.py

BOUNDS = {"iwae", "masked", "vaegan"}  # the loss is no sum of nll and terms: tests/objectives/


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    schema.register()

    @functools.cache
    def composed(*overrides: str) -> DictConfig:
        return hydra.compose("config", overrides=list(overrides))

    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield lambda *overrides: config.check(composed(*overrides))


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model=vae", "model.latent_dim=3"),
        ("model=vae", "model.latent_dim=4", "+regularizer.kl.wieght=2", "~tracking"),
        ("model=vqvae", "prior=default", "network=conv", "data=shapes"),
        ("model=vea",),
        ("model=vae", "optimiser.lr=1"),
        ("model=vae", "model=ae"),
        ("~noise",),
        ("experiment=iwae_table", "hydra.run.dir=elsewhere"),
    ],
)
def test_the_tests_compose_what_hydra_composes(
    overrides: tuple[str, ...], compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def composed() -> str:
        try:
            found = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            return f"{type(error).__name__}: {error}"
        return OmegaConf.to_yaml(found)

    kept = [composed(), composed()]
    composition.as_hydra(monkeypatch)
    assert kept == [composed()] * 2


def test_nothing_else_lies_in_the_groups() -> None:
    assert {path.suffix for path in FILES} == {".yaml"}
    assert {group for group, _ in OPTIONS} == set(schema.GROUPS)
    folders = {path.name for path in schema.CONFIGS.iterdir() if path.is_dir()}
    assert folders - {"hydra"} == set(schema.GROUPS), "--help lists every group"


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=["/".join(o) for o in OPTIONS])
def test_every_option_composes_and_fits_its_constructor(compose: Compose, group: str, option: str) -> None:
    checked = compose(f"{group}=[{option}]" if group == "regularizer" else f"{group}={option}")
    written = yaml.safe_load((schema.CONFIGS / group / f"{option}.yaml").read_text())
    written.pop("defaults", None)
    if group == "trainer":
        return  # data, model and experiment may override it; the defaults are compared below
    if group in ("network", "noise", "likelihood", "optimizer"):
        written = {group: written}
    elif group == "regularizer":
        written = {"regularizer": written}
    elif group == "prior":
        written = {"model": {"prior": written}}

    def within(part: Any, whole: Any, path: str) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                within(value, whole[key], f"{path}.{key}")
        elif not str(part).startswith("${"):  # the value of another key
            assert part == whole, f"{path}: something overrides what the file says"

    within(written, checked, option)


@pytest.mark.parametrize("group", schema.GROUPS)
def test_every_option_says_what_it_is(group: str) -> None:
    said = dict(schema.choices(group))
    assert set(said) == {option for g, option in OPTIONS if g == group}
    for option, comment in said.items():
        assert len(comment) >= 4, f"{group}/{option}"


def test_the_trainers_file_and_its_dataclass_say_the_same() -> None:
    written = yaml.safe_load((schema.CONFIGS / "trainer" / "default.yaml").read_text())
    assert written == dataclasses.asdict(TrainerSettings())
    assert list(written) == [field.name for field in dataclasses.fields(TrainerSettings)]


def test_files_that_show_an_option_show_all_of_its_constructors(compose: Compose) -> None:
    """A person finds in the file what there is to set; the default that is shown is the one that holds."""
    from autoenc.config.signatures import options

    for group, option in OPTIONS:
        if group in ("network", "noise", "likelihood", "optimizer", "data") and not option.startswith("gaussian_"):
            node = compose(f"{group}={option}")[group]
            if node["_target_"].startswith("autoenc."):
                missing = set(options(node["_target_"])) - set(node) - set(config.GIVEN)
                assert not missing, f"{group}/{option}"


ONE_CLASS = ("deep_svdd", "deep_sad")
CRITIC = ("critic", "critic_accuracy", "generator_gradient")
DICTIONARIES = ("topk", "batch_topk", "matryoshka", "jumprelu", "gated")


@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in OF_SERIES])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_with_every_network(compose: Compose, data: Data, model: str, network: str) -> None:
    small = {"mlp": ["network.hidden=[24,16]"], "conv": ["network.channels=[4,6]", "network.hidden=16"]}
    small["vit"] = ["network.width=8", "network.heads=2", "network.layers=1"]
    small["conv_spatial"] = ["network.channels=[4,6]", "network.hidden=16"]
    if model in DICTIONARIES and network == "conv_spatial":
        pytest.skip("dictionaries read vectors")
    if model in ONE_CLASS and network not in ("mlp", "conv", "conv_spatial"):
        pytest.skip("encoders with biases")
    if model == "masked" and network != "vit":
        pytest.skip("hides tokens")
    width = 32 if model in (*DICTIONARIES, "sparse") else {"fsq": 3, "masked": 8}.get(model, 6)
    given = {"deep_sad": ["model.objective.anomalies=[3]"], "vqgan": ["model.objective.start=0.0"]}.get(model, [])
    size = [f"model.latent_dim={width}", *small.get(network, []), *given]
    checked = compose(
        f"model={model}",
        f"network={network}",
        *(["network.norm=none"] if model in ONE_CLASS and "conv" in network else []),
        *size,
    )
    torch.manual_seed(0)
    ae = build.build_model(checked, data.spec)
    objective = build.build_objective(checked, ae, data.spec, total_steps=100, num_train=100)
    optimizers = build.build_optimizers(checked, objective.players(ae))
    batch = data.train.take(slice(0, 16))
    before = {name: p.detach().clone() for name, p in ae.named_parameters()}
    own = {"vqvae": {"commitment"}, "aae": {"generator", *CRITIC}, "iwae": {"kl"}}
    own |= {"rqvae": {"commitment"}, "factorvae": {"total_correlation", *CRITIC}}
    own |= {"m2": {"class_kl", "classification"}, "masked": {"masked", "masked_r2"}}
    own |= {"vaegan": {"feature_nll", *CRITIC}}
    own |= {"vqgan": {"commitment", "perceptual", "generator", "adaptive_weight", *CRITIC}}
    own |= {name: {"distance", "distance_sd"} for name in ONE_CLASS}
    own = own.get(model, set())
    of_objective = [(f"objective.{name}", p) for name, p in objective.named_parameters() if p.requires_grad]
    before |= {name: p.detach().clone() for name, p in of_objective}
    for step in range(2):
        parts = train_step(ae.train(), objective, batch, step, optimizers)
        terms = objective.regularizers
        weights = {name: term.weight(step) if callable(term.weight) else term.weight for name, term in terms.items()}
        auxiliary = {name for name, term in terms.items() if term.auxiliary}
        settings = checked["model"]["objective"]
        # `loss`, by which weights are chosen, leaves out critics and what only trains a codebook
        weights = dict.fromkeys(("generator", "total_correlation", "commitment"), 0.0) | weights
        weights |= {"class_kl": 1.0, "classification": settings.get("alpha")}
        if model == "vqgan":
            weights |= {"perceptual": batch.x[0].numel(), "adaptive_weight": 0.0}
        if model not in (*BOUNDS, *ONE_CLASS):
            total = parts["nll"] + sum(weights[name] * parts[name] for name in {*terms, *own} - {*CRITIC} - auxiliary)
            torch.testing.assert_close(parts["loss"], total)
        assert math.isfinite(parts["loss"])
    assert parts.keys() == {"loss", "nll", *checked["regularizer"], *own}
    if (
        model == "vqgan"
    ):  # within the margin, the hinge loss has no gradient in the last bias: those of both sets cancel
        of_objective.pop()
    for name, p in (*ae.named_parameters(), *of_objective):
        assert not torch.equal(p, before[name]), f"{name} does not learn"
    ae.eval()
    assert ae.reconstruct(batch).shape == batch.x.shape
    grid = (2, 2) if network == "conv_spatial" else ()
    assert ae.encode(batch).mean.shape == (16, checked["model"]["latent_dim"], *grid)
    assert ae.bottleneck.latent_shape == ae.encode(batch).mean.shape[1:]


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vae", "noise=masking", "regularizer=[kl_cyclical,l1,jacobian]", "likelihood=laplace"],
        ["model=ae", "model.bottleneck.activation=sigmoid", "regularizer=[kl_sparsity]", "likelihood=bernoulli"],
        ["model=topk", "noise=salt_pepper", "network=mlp", "likelihood=gaussian_images"],
        ["model=contractive", "noise=gaussian", "optimizer=sgd"],
    ],
    ids=lambda o: "-".join(o[:2]),
)
def test_groups_combine(compose: Compose, data: Data, overrides: list[str]) -> None:
    checked = compose(*overrides, "optimizer.lr=0.0003")
    torch.manual_seed(0)
    model = build.build_model(checked, data.spec)
    objective = build.build_objective(checked, model, data.spec, total_steps=100, num_train=100)
    optimizers = build.build_optimizers(checked, objective.players(model))
    batch = Batch(data.train.take(slice(0, 64)).x)
    losses = [train_step(model, objective, batch, 100, optimizers)["loss"].item() for _ in range(15)]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_beta_vae_is_a_vae_with_another_weight(compose: Compose) -> None:
    vae, beta = compose("model=vae"), compose("model=beta_vae")
    assert beta["regularizer"]["kl"]["weight"] > vae["regularizer"]["kl"]["weight"] == 1
    beta["regularizer"]["kl"]["weight"] = 1.0
    assert beta == vae


def test_who_overrides_whom(compose: Compose) -> None:
    """data before model before experiment before the command line."""
    assert compose("data=cifar10")["network"]["_target_"] == "autoenc.networks.conv"
    assert compose("data=cifar10", "model=topk")["network"]["unit_norm"] is True
    assert compose("data=cifar10", "model=topk", "network=mlp")["network"]["_target_"] == "autoenc.networks.mlp"
    assert compose("experiment=article_mnist")["model"]["latent_dim"] == 32
    assert compose("experiment=article_mnist", "model.latent_dim=5")["model"]["latent_dim"] == 5
    assert compose("experiment=article_mnist", "data=digits")["data"]["_target_"] == "autoenc.data.digits"
    assert list(compose("model=vae", "regularizer=[kl,l1]")["regularizer"]) == ["kl", "l1"]
