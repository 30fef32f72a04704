"""Arguments that are not KEY=VALUE or resume a run, and the keys that a name may stand for. Imports no torch."""

from __future__ import annotations

import difflib
import importlib.util
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from autoenc.config import schema
from autoenc.errors import ConfigError
from autoenc.text import flat
from autoenc.training.settings import LENGTH

NUMBERS = re.compile(r"\[?[-+]?\.?\d[-+.\d,e]*\]?")
QUOTED = re.compile(r"^(['\"])(.*)\1$")  # as Hydra needs it for values with an equals sign
SYNONYMS = {  # names in other programs -> keys here
    **dict.fromkeys(("dataset", "datasets"), "data"),
    **dict.fromkeys(("arch", "architecture", "net", "backbone"), "network"),
    **dict.fromkeys(("variant", "model_type", "model_name"), "model"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("learning_rate", "learningrate"), "optimizer.lr"),
    **dict.fromkeys(("wd", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "nb_epochs"), "trainer.epochs"),
    **dict.fromkeys(("max_steps", "iterations", "iters", "num_steps"), "trainer.steps"),
    **dict.fromkeys(("batch", "bs", "batchsize"), "trainer.batch_size"),
    **dict.fromkeys(("gpu", "gpus", "accelerator"), "trainer.device"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "trainer.patience"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "trainer.lr_schedule"),
    **dict.fromkeys(("grad_clip", "clip_grad", "gradient_clip_val"), "trainer.clip"),
    **dict.fromkeys(("log_every", "log_interval", "eval_every", "val_every"), "trainer.evaluate_every"),
    **dict.fromkeys(("amp", "fp16", "bf16"), "trainer.precision"),
    **dict.fromkeys(("latent", "latents", "latent_size", "latent_dims", "z_dim", "code_dim", "code_size",
                     "n_latent", "num_latents", "embedding_dim", "n_components", "bottleneck_dim"), "model.latent_dim"),
    **dict.fromkeys(("codebook_size", "num_embeddings", "n_embed"), "model.bottleneck.codes"),
    **dict.fromkeys(("n_clusters", "num_clusters"), "model.prior.components"),
    **dict.fromkeys(("layers", "n_layers", "num_layers", "hidden_dims", "hidden_sizes", "hidden_layers", "hidden_size",
                     "hidden_dim"), "network.hidden"),
    **dict.fromkeys(("beta", "kl_weight", "kl"), "regularizer.kl.weight"),
    **dict.fromkeys(("sparsity", "sparsity_weight", "l1_weight"), "regularizer.l1.weight"),
    **dict.fromkeys(("noise_level", "noise_factor", "sigma"), "noise.std"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(("loss", "reconstruction_loss"), "likelihood"),
    **dict.fromkeys(("path", "data_path", "data_dir", "file"), "data.path"),
    **dict.fromkeys(("val_split", "validation_split", "val_size", "val_ratio"), "data.val_fraction"),
    **dict.fromkeys(("test_split", "test_size", "test_ratio"), "data.test_fraction"),
    **dict.fromkeys(("image_size", "img_size", "resolution"), "data.size"),
    **dict.fromkeys(("num_workers", "n_workers"), "data.workers"),
    **dict.fromkeys(("output", "output_dir", "out", "outdir", "save_dir", "logdir", "log_dir", "run_dir", "run_name",
                     "name", "exp_name"), "hydra.run.dir"),
    **dict.fromkeys(("checkpoint", "ckpt", "resume_from"), "resume"),
    **dict.fromkeys(("pretrained", "weights"), "init_from"),
}  # fmt: skip


def argument_message(args: list[str]) -> str:
    """Return one line for the first argument that is not KEY=VALUE, with the way to write it; empty if there is none.

    Raises:
        ConfigError: an option of Hydra lacks its value.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError("command line", None, f"{message}; see --help")

    parser.error = refuse  # type: ignore[method-assign]
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag.startswith("-") and flag not in parser._option_string_actions:
            after = [] if equals else [a for a in args[i + 1 : i + 2] if "=" not in a and not a.startswith("-")]
            others = [a for a in args[:i] + args[i + 1 :] if "=" in a and not a.startswith("-")]
            return _flag(flag.strip("-").replace("-", "_"), value or "".join(after), others, " ".join([arg, *after]))
    words = parser.parse_args(args).overrides
    for i, word in enumerate(words):
        after = [w for w in words[i + 1 : i + 2] if "=" not in w]
        if word.count("[") > word.count("]") and "]" in "".join(words[i + 1 :]):  # network.hidden=[64, 32]
            end = next(j for j in range(i + 1, len(words)) if "]" in words[j])
            return _without_blanks(words[i : end + 1])
        if word.endswith("=") and after:
            return _without_blanks([word, *after])
        if "=" not in word and words[i + 1 : i + 2] and words[i + 1].startswith("="):
            return _without_blanks(words[i : i + (3 if words[i + 1] == "=" else 2)])
        if "=" not in word and not word.startswith("~"):
            return _word(word, after)
        name, _, value = word.lstrip("+").partition("=")
        if name in schema.GROUPS and NUMBERS.fullmatch(value):
            options = ", ".join(option for option, _ in schema.choices(name))
            return f"{word}: {name} is an option, not a number; choose from {options}"
        if word.startswith("+") and "." not in name:
            composed = compose([w for w in words if not w.startswith(("+", "~"))])
            keys = keys_named(name, composed) or settings_named(name, composed)
            if keys and name not in keys:
                return f"{word}: no such key; did you mean {_either(keys, value)}?"
    return ""


def split_resume(args: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Return the folder that resume=RUN names, None without it, and the other arguments.

    Raises:
        ConfigError: it names no run, or several.
    """
    named = [a for a in args if a.lstrip("+").startswith("resume=") and a.partition("=")[2] != "null"]
    folders = [QUOTED.sub(r"\2", a.partition("=")[2]) for a in named]
    if "" in folders:
        raise ConfigError("resume", None, "names no run; resume=RUN, or resume=latest")
    if len(folders) > 1:
        raise ConfigError("resume", folders[1], f"one run resumes at a time; leave out this one or {named[0]}")
    return Path(folders[0]) if folders else None, [a for a in args if a not in named]


def new_length(folder: Path, others: Sequence[str]) -> dict[str, Any]:
    """Return the values of trainer.epochs, trainer.steps and trainer.patience with which a run resumes.

    Args:
        folder: of the run. others: arguments beside resume=RUN.

    Raises:
        ConfigError: another setting would change.
    """
    changes = {}
    for other in others:
        key, _, value = other.partition("=")
        if key not in LENGTH:
            why = f"uses the config of the run, of which only {', '.join(LENGTH)} may change; leave out {other}"
            raise ConfigError("resume", folder, why)
        try:
            changes[key.removeprefix("trainer.")] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(key, value, "must be a whole number") from None
    return changes


def launcher_message(args: list[str]) -> str:
    """Return one line if the jobs of a sweep are to be started by what this machine lacks; empty otherwise."""
    chosen = [arg for arg in args if arg.startswith("hydra/launcher=submitit")]
    if not chosen:
        return ""
    if not {"-m", "--multirun"} & set(args):
        return f"{chosen[0]}: starts the jobs of a sweep; add -m"
    if importlib.util.find_spec("submitit") is None or importlib.util.find_spec("hydra_plugins") is None:
        return f"{chosen[0]}: needs submitit; pip install 'autoenc[slurm]'"
    if chosen[0].endswith("slurm") and shutil.which("sbatch") is None:
        why = "sbatch is not on this machine; start it where jobs are submitted, or try hydra/launcher=submitit_local"
        return f"{chosen[0]}: {why}"
    return ""


def _without_blanks(words: list[str]) -> str:
    return f"{' '.join(words)}: write it without blanks: {''.join(words)}"


def _flag(name: str, value: str, others: list[str], shown: str) -> str:
    """Return the message for an option such as --epochs."""
    keys = [name] if name in schema.GROUPS or "." in name else []
    if not keys:
        composed = compose(others)
        keys = keys_named(name, composed) or keys_like(name, composed)
    if not keys:
        return f"{shown}: no such option; see --help"
    return f"{shown}: write {_either(keys, value)}"


def _word(word: str, after: list[str]) -> str:
    """Return the message for an argument without an equals sign."""
    option = word.lower().replace("-", "_")
    owners = [group for group in schema.GROUPS for name, _ in schema.choices(group) if name == option]
    if owners and word not in schema.GROUPS:
        return f"{word}: write {_either(owners, option)}"
    if keys := [word] if word in schema.GROUPS or "." in word else keys_named(word, compose([])):
        return f"{' '.join([word, *after])}: write {_either(keys, ''.join(after))}"
    return f"{word}: cannot be read as KEY=VALUE; see --help"


def _either(keys: list[str], value: str) -> str:
    return " or ".join(f"{key}={value or 'VALUE'}" for key in keys)


def compose(overrides: list[str]) -> DictConfig:
    """Return the config with these overrides, or without them if they are invalid."""
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        try:
            return hydra.compose("config", overrides=overrides)
        except Exception:
            return hydra.compose("config")


def _leaves(composed: DictConfig) -> dict[str, str]:
    """Return every key of the config and its last part, groups first, then the shortest."""
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    keys = [k for k in flat(plain) if "_target_" not in k and k not in schema.GROUPS]  # type: ignore[arg-type]
    return {key: key.rpartition(".")[2] for key in [*schema.GROUPS, *sorted(keys, key=lambda k: k.count("."))]}


def keys_named(name: str, composed: DictConfig) -> list[str]:
    """Return the full keys that end in a name, or that other programs call so; at most three."""
    leaves, name = _leaves(composed), name.lower()
    synonym = SYNONYMS.get(name, "")
    known = [synonym] * (synonym in leaves or synonym.startswith(("hydra.", "data.path")))
    known += [key for key in (name.replace("_", ".", 1),) if key in leaves and "_" in name]  # trainer_epochs
    return [*known, *(key for key, leaf in leaves.items() if leaf == name and key not in known)][:3]


def options_with(key: str, terms: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the full keys that end in a key, and the options of config groups that have each, as they are typed.

    Args:
        terms: regularizers that are chosen already.
    """
    found: dict[str, list[str]] = {}
    for group in schema.GROUPS[:-1]:  # experiments choose options
        for path in sorted((schema.CONFIGS / group).glob("*.yaml")):
            text = path.read_text()
            if f"{key.rpartition('.')[2]}:" not in text:
                continue
            package = re.match(r"# @package (\S+)", text)
            prefix = package[1].replace("_global_", "") if package else group
            settings = {k: v for k, v in yaml.safe_load(text).items() if k != "defaults"}
            option = f"[{','.join([*terms, path.stem])}]" if group == "regularizer" else path.stem
            for name in flat(settings, f"{prefix}." if prefix else ""):
                if f".{name}".endswith(f".{key}"):
                    found.setdefault(name, []).append(f"{group}={option}")
    return found


def settings_named(name: str, composed: DictConfig) -> list[str]:
    """Return keys of a name that other options have, each with such an option; at most three."""
    key, terms = SYNONYMS.get(name.lower(), name), [str(term) for term in composed.regularizer]
    if key.startswith("regularizer.kl."):
        return [f"model=vae {key}"]
    found = options_with(key, terms) or options_with(f"{key}.weight", terms) or options_with(key.replace("_", ".", 1))
    most = 3 if len(found) == 1 else 1
    found |= {full: ["model=vae"] for full in found if full.startswith("regularizer.kl.")}  # others have no posterior
    return [f"{option} {full}" for full, options in found.items() for option in options[:most]][:3]


def keys_like(name: str, composed: DictConfig) -> list[str]:
    """Return the full keys that end in the name that is most like this one; at most three."""
    leaves = _leaves(composed)
    near = difflib.get_close_matches(name.lower(), set(leaves.values()), n=1, cutoff=0.75)
    return [key for key, leaf in leaves.items() if leaf in near][:3]
