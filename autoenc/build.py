"""Construction of data, model, objective and optimizers from a config."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_object
from torch import Tensor, nn
from torch.optim import Optimizer

from autoenc import launched
from autoenc.compatibility import check_batches, check_parts, check_prior, check_support
from autoenc.config.checks import check_files, check_target, overlaid
from autoenc.config.signatures import options
from autoenc.core import UNLABELLED, Autoencoder, Bottleneck, Condition, Likelihood, Prior, Regularizer
from autoenc.data.dataset import Data, DataSpec, class_numbers, few_labels, without
from autoenc.data.kinds.kind import Kind
from autoenc.errors import ConfigError, DataError, keys_below, one_line
from autoenc.initialization import initialize, start_at_mean, start_tied
from autoenc.networks.parts import Pair
from autoenc.objective import Objective
from autoenc.parallel import BATCH_STATISTICS
from autoenc.training.settings import TrainerSettings

TYPES: dict[str, type] = {
    "data": Data,
    "network": Pair,
    "likelihood": Likelihood,
    "noise": nn.Module,
    "model.bottleneck": Bottleneck,
    "model.prior": Prior,
    "model.condition": Condition,
    "model.objective": Objective,
    "optimizer": Optimizer,
    "model.players": Optimizer,
    "regularizer": Regularizer,
}
NOTHING = {"columns": (), "vocabulary": 0}  # arguments of constructors if the kind of data has none


def make(path: str, node: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Return the object of a `_target_` node; constructors also get the arguments in `given` that they name.

    Inner nodes are constructed first. Errors have the full key.
    """
    target = node["_target_"]
    check_target(path, target)
    try:
        constructor: Callable[..., Any] = get_object(target)
    except ImportError as error:
        raise ConfigError(f"{path}._target_", target, f"cannot be imported: {one_line(error)}") from error
    kwargs = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and "_target_" in value:
            kwargs[key] = make(f"{path}.{key}", value, given)
        elif key != "_target_":
            kwargs[key] = value
    wanted = {key: value for key, value in given.items() if key in inspect.signature(constructor).parameters}
    try:
        part = constructor(**kwargs, **wanted)
    except ConfigError as error:
        raise error.under(path) from None
    except TypeError as error:
        raise ConfigError(path, None, one_line(error)) from error
    except ValueError as error:
        if target.startswith("autoenc."):
            raise  # our parts raise ConfigError; this is a bug
        raise ConfigError(path, None, one_line(error)) from None
    group = path.rpartition(".")[0] if path.startswith(("regularizer.", "model.players.")) else path
    if group in TYPES and not isinstance(part, TYPES[group]):
        raise ConfigError(f"{path}._target_", target, f"does not make a part of type {TYPES[group].__name__}")
    return part


@dataclass(frozen=True)
class Parts:
    """Everything that training needs."""

    data: Data
    model: Autoencoder
    objective: Objective
    optimizers: dict[str, Optimizer]
    settings: TrainerSettings


def build_data(config: Mapping[str, Any], kind: Kind | None = None) -> Data:
    """Return the data set of a checked config: training and validation splits without the anomaly classes, and with
    `labels` labels.

    Args:
        kind: the kind of a run; None: learned from the training split.
    """
    data = _without_classes(config, kind)
    count, seed = config.get("labels"), config.get("labels_seed", 0)
    return data if count is None else few_labels(data, count, seed)


def _without_classes(config: Mapping[str, Any], kind: Kind | None) -> Data:
    check_files(config["data"])
    given: dict[str, Any] = {} if kind is None else {"kind": kind}
    excluded = config["anomaly_classes"]
    if normal := config.get("normal_classes", ()):
        whole: Data = make("data", config["data"], given)
        class_numbers(whole.spec, normal, "normal_classes")
        excluded = [name for name in whole.spec.classes if name not in normal]
        if "excluded" not in options(config["data"]["_target_"]):  # nothing is learned from the classes left out
            return without(whole, excluded, "normal_classes: leaving out")
    data: Data = make("data", config["data"], given | {"excluded": excluded})
    return without(data, excluded, "normal_classes: leaving out" if normal else "anomaly_classes")


def build_model(config: Mapping[str, Any], spec: DataSpec, mean: Tensor | None = None) -> Autoencoder:
    """Return the model of a checked config, initialized.

    Args:
        mean: mean (*shape) of the training data, the initial reconstruction.
    """
    latent_dim = config["model"]["latent_dim"]
    sizes = {"input_shape": spec.shape, "latent_dim": latent_dim, "low": spec.low, "high": spec.high}
    sizes |= {"kind": spec.kind, **NOTHING, **spec.kind.given()}
    check_parts(config, spec)
    likelihood: Likelihood = make("likelihood", config["likelihood"], sizes)
    check_support(likelihood, spec.name, spec.low, spec.high)
    condition = build_condition(config, spec, sizes)
    joined = 0 if condition is None else condition.size  # channels beside those of the features and of the code
    pair = make("network", config["network"], sizes | {"latent_dim": latent_dim + joined})
    noise = make("noise", config["noise"], sizes)
    features = (pair.feature_shape[0] + joined, *pair.feature_shape[1:])
    bottleneck = make("model.bottleneck", config["model"]["bottleneck"], sizes | {"feature_shape": features})
    model = Autoencoder(noise, pair.encoder, bottleneck, pair.decoder, likelihood, condition)
    initialize(model, config["model"]["initialization"])
    start_tied(model)
    if mean is not None:
        start_at_mean(model, mean)
    if config["model"]["prior"]:  # after `initialize`: priors have first values of their own
        set_prior(model, config["model"]["prior"], sizes)
    return model


def set_prior(model: Autoencoder, node: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Give the bottleneck of a model the prior of a `_target_` node; ConfigError if they do not fit."""
    bottleneck = model.bottleneck
    if bottleneck.no_density is not None:
        why = f"no density fits the codes of {type(bottleneck).__name__}: {bottleneck.no_density}; prior=default"
        raise ConfigError("model.prior", None, why)
    bottleneck.prior = prior = make("model.prior", node, {**given, "latent_shape": bottleneck.latent_shape})
    with keys_below("model.prior"):
        prior.bind(model)


def build_condition(config: Mapping[str, Any], spec: DataSpec, sizes: Mapping[str, Any]) -> Condition | None:
    """Return the condition of a checked config, None if there is none; ConfigError for data without labels."""
    node = config["model"].get("condition")
    if not node:
        return None
    if not spec.classes:
        raise ConfigError("model.condition", None, f"needs labels, and {spec.name} has none; model=vae needs none")
    given = {"num_classes": len(spec.classes), "make_network": lambda: make("network", config["network"], sizes)}
    condition: Condition = make("model.condition", node, given)
    if spec.anomalies and not condition.inferred:
        why = f"is given the labels, also those of the classes left out ({', '.join(spec.anomalies)}); use model=vae"
        raise ConfigError("model.condition", None, why)
    return condition


def build_objective(
    config: Mapping[str, Any],
    model: Autoencoder,
    spec: DataSpec,
    total_steps: int,
    num_train: int,
    labelled: float = 1.0,
) -> Objective:
    """Return the objective of a checked config; ConfigError if a term does not support the model.

    Args:
        labelled: fraction of the training rows that have a label.
    """
    given: dict[str, Any] = {"total_steps": total_steps, "num_train": num_train, "labelled": labelled}
    given["class_names"], given["left_out"] = tuple(spec.classes), spec.anomalies
    given |= {
        "latent_dim": config["model"]["latent_dim"],
        "latent_shape": model.bottleneck.latent_shape,
        "input_shape": spec.shape,
        "model": model,
    }
    regularizers = {name: make(f"regularizer.{name}", node, given) for name, node in config["regularizer"].items()}
    for name, term in regularizers.items():
        if not callable(term.weight) and not math.isfinite(term.weight):
            raise ConfigError(f"regularizer.{name}.weight", term.weight, "must be finite")
        try:
            term.check(model)
        except ConfigError as error:
            raise ConfigError(f"regularizer={name}", None, error.why) from None
    if (needed := model.bottleneck.needs) and needed not in regularizers:
        kind, listed = type(model.bottleneck).__name__, ",".join([*regularizers, needed])
        why = f"the bottleneck {kind} does not learn without the term {needed}: regularizer=[{listed}]"
        raise ConfigError("regularizer", None, why)
    objective: Objective = make("model.objective", config["model"]["objective"], given | {"regularizers": regularizers})
    if model.condition is not None and model.condition.inferred and not objective.infers_labels:
        name = type(objective).__name__
        raise ConfigError(
            "model.condition", None, f"infers labels, which the objective {name} does not train; model=m2"
        )
    with keys_below("model.objective"):
        objective.check(model)
    check_prior(config["model"]["prior"], model, objective)
    return objective


def build_optimizers(config: Mapping[str, Any], players: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
    """Return an optimizer for each player; players share no parameter.

    `model.players.NAME` overrides settings of the `optimizer` node for that player.
    """
    settings: Mapping[str, Mapping[str, Any]] = config["model"]["players"]
    if unknown := settings.keys() - players.keys():
        why = f"there is no such player; the objective has {', '.join(players)}"
        raise ConfigError(f"model.players.{min(unknown)}", None, why)
    optimizers: dict[str, Optimizer] = {}
    owner: dict[int, str] = {}
    for player, module in players.items():
        parameters = [p for p in module.parameters() if p.requires_grad]
        for p in parameters:
            if id(p) in owner:
                raise AssertionError(f"players {owner[id(p)]} and {player} share a parameter")
            owner[id(p)] = player
        path = f"model.players.{player}" if player in settings else "optimizer"
        node = overlaid(config["optimizer"], settings.get(player, {}))
        optimizers[player] = make(path, node, {"params": parameters})
    return optimizers


def build(config: Mapping[str, Any], device: torch.device, data: Data | None = None) -> Parts:
    """Return everything that training needs, for the given data or those of the config."""
    settings = TrainerSettings(**config["trainer"])
    if settings.replicas is not None:
        raise ConfigError("trainer.replicas", settings.replicas, "is only for the command line of train.py")
    data = data or build_data(config)
    data = dataclasses.replace(data, train=data.train.on(device), val=data.val.on(device), test=data.test.on(device))
    model = build_model(config, data.spec, data.mean())
    for name, split in (("validation", data.val), ("test", data.test)):  # spec describes the training split
        check_support(model.likelihood, f"the {name} split", *split.range())
    y = data.train.y
    with keys_below("model.bottleneck"):
        model.bottleneck.check(len(data.train))
    if model.condition is not None:
        with keys_below("model.condition"):
            model.condition.check({"training": y, "validation": data.val.y, "test": data.test.y})
    if model.bottleneck.prior is not None:
        with keys_below("model.prior"):
            model.bottleneck.prior.check(len(data.train))
    if min(settings.batch_size, len(data.train)) < 2 and any(isinstance(m, BATCH_STATISTICS) for m in model.modules()):
        if len(data.train) < 2:
            raise DataError(f"{data.spec.name}: network.norm=batch and model=masked need 2 training examples or more")
        raise ConfigError(
            "trainer.batch_size", settings.batch_size, "must be 2 or more with network.norm=batch or model=masked"
        )
    num_train, labelled = len(data.train), 1.0 if y is None else float((y != UNLABELLED).float().mean())
    steps = settings.total_steps(num_train)
    objective = build_objective(config, model, data.spec, steps, num_train, labelled)
    model, objective = (
        model.to(device),
        objective.to(device),
    )  # what one takes from the other is on one device until here
    check_batches(objective, settings, data)
    players = objective.players(model)
    learning = {id(p) for module in (model, objective) for p in module.parameters() if p.requires_grad}
    optimizers = build_optimizers(config, players)
    covered = {id(p) for module in players.values() for p in module.parameters() if p.requires_grad}
    if covered != learning:
        raise AssertionError("the players do not cover every parameter that learns")
    return Parts(data, model, objective, optimizers, settings)


def pick_device(name: str, key: str = "trainer.device") -> torch.device:
    """Return the device of that name; `auto` is a CUDA device if there is one.

    Metrics are sums in float64, which mps does not have.
    """
    several = launched.processes() > 1
    available = {"cuda": torch.cuda.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise ConfigError(key, name, "is not available on this machine; use auto or cpu")
    if name != "cuda" or not several:
        return torch.device(name)
    number, gpus = launched.local_rank(), torch.cuda.device_count()
    if number >= gpus:
        why = f"more processes than GPUs on this machine ({gpus}); torchrun --nproc-per-node={gpus}, or cpu"
        raise ConfigError(key, name, why)
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device
