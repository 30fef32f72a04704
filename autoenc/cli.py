"""The command line of train.py: Hydra composes the config; errors are one line with an exit code.

Imports no torch before training, so that `--help` is fast.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from autoenc.config import checks as config
from autoenc.config.messages import hydra_message
from autoenc.errors import ConfigError, Interrupted, NotFinite, UserError, one_line
from autoenc.metric_table import metric

DONE, WRONG, FAILED = 0, 2, 1

HELP = """\
autoenc: train an autoencoder

  python train.py model=vae                                   on data included in scikit-learn
  python train.py model=dae data=mnist noise=gaussian noise.std=0.5 network=conv
  python train.py -m model=ae,vae model.latent_dim=2,4,8,16   a sweep, with a table, a CSV and a plot

  python train.py resume=RUN       resume an interrupted run
  python train.py model=vae --cfg job     show the config without training
  tensorboard --logdir outputs     view losses, reconstructions, codes

Choices (group=option; regularizer takes a list, regularizer=[kl,l1]):
"""

KEYS = """
Every key of the config can be set: seed, model.latent_dim, network.hidden, noise.std, noise.p, data.path,
regularizer.NAME.weight, optimizer.lr, trainer.epochs, trainer.steps, trainer.batch_size, trainer.device ...
`--cfg job` lists them; configs/ has a comment on each.
"""


def help_text() -> str:
    """Return the examples, the config groups and their choices."""
    lines = [HELP]
    for group in config.GROUPS:
        lines.append(f"  {group}")
        lines += [f"    {name:<22}{about}" for name, about in config.choices(group)]
    return "\n".join(lines) + "\n" + KEYS


class Callbacks(Callback):
    """Hooks that Hydra calls before and after runs."""

    failed: ClassVar[list[str]] = []  # folders of failed jobs of the sweep
    sweep_dir: ClassVar[Path | None] = None
    error: ClassVar[Exception | None] = None  # of a single run; Hydra would print more lines

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Reject a run directory that is not empty, before Hydra writes into it."""
        HydraConfig.instance().set_config(config)  # the name of the directory interpolates from it
        _refuse_used("hydra.run.dir", Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Reject a sweep directory that is not empty."""
        HydraConfig.instance().set_config(config)
        Callbacks.sweep_dir = Path(config.hydra.sweep.dir)
        _refuse_used("hydra.sweep.dir", Callbacks.sweep_dir)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table, CSV and plot of a sweep."""
        try:
            _report_sweep()
        except Exception:  # Hydra would turn it into a warning
            traceback.print_exc()
            raise SystemExit(FAILED) from None


def _refuse_used(key: str, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        print(f"{key}={folder}: is already in use; name another, or use resume={folder}", file=sys.stderr)
        raise SystemExit(WRONG)


def _report_sweep() -> None:
    from autoenc.apps.protocol.compare_table import report_sweep

    assert Callbacks.sweep_dir is not None
    Callbacks.failed = report_sweep(Callbacks.sweep_dir)


def job(cfg: DictConfig) -> float:
    """Train one run and return what a minimizing sweeper needs: the validation value of `trainer.monitor`.

    Metrics that are better if higher, such as psnr, are negated, so that lower is always better. NaN if the run failed.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if run_dir.is_relative_to(Path.cwd()):
        run_dir = run_dir.relative_to(Path.cwd())
    if HydraConfig.get().mode == RunMode.RUN:
        try:
            return _train(cfg, run_dir)
        except Exception as error:
            Callbacks.error = error
            return float("nan")
        finally:
            if not (run_dir / "config.yaml").exists():
                _remove(run_dir)  # it has only Hydra's files
    print(f"\njob {HydraConfig.get().job.num}: {' '.join(HydraConfig.get().overrides.task)}", flush=True)
    try:
        return _train(cfg, run_dir)
    except Exception as error:  # the sweep continues; its table lists failed jobs
        _note_failure(run_dir, error)
        return float("nan")


def _train(cfg: DictConfig, run_dir: Path) -> float:
    checked = config.check(cfg)
    chosen = [c for o in HydraConfig.get().overrides.task if o.startswith("regularizer=") for c in _items(o)]
    if len(chosen) > len(checked["regularizer"]):
        raise ConfigError("regularizer", f"[{','.join(chosen)}]", "two of these are variants of one term; choose one")
    from autoenc import run

    groups = HydraConfig.get().runtime.choices
    choices = {k: str(v) for k, v in groups.items() if k in config.GROUPS and v is not None}
    summary = run.train(checked, run_dir, choices)
    monitor = checked["trainer"]["monitor"]
    return metric(monitor).sign * float(summary["val"][monitor])


def _items(override: str) -> list[str]:
    """regularizer=[kl,l1] -> kl, l1."""
    return [item for item in override.partition("=")[2].strip("[]").split(",") if item]


def _note_failure(run_dir: Path, error: Exception) -> None:
    from autoenc.files import write_json

    run_dir.mkdir(parents=True, exist_ok=True)
    kind = "" if isinstance(error, UserError | NotFinite) else f"{type(error).__name__}: "
    message = f"{kind}{one_line(error)}"
    if not (run_dir / "run.json").exists():
        write_json(run_dir / "run.json", {"state": "failed", "error": message})
    print(f"{run_dir.name}: {message}", file=sys.stderr)
    if kind:
        traceback.print_exception(error)


def _remove(run_dir: Path) -> None:
    """Remove the run directory and then-empty parent folders, up to the working directory."""
    if run_dir.resolve() == Path.cwd():
        return
    shutil.rmtree(run_dir, ignore_errors=True)
    for parent in run_dir.resolve().parents:
        if parent == Path.cwd() or any(parent.iterdir()):
            break
        parent.rmdir()


def main() -> int:
    """Run and return the exit code: 0 success, 2 invalid config or data, 130 or 143 interrupted, 1 other failures."""
    args = sys.argv[1:]
    if {"--help", "-h"} & set(args):
        print(help_text(), end="")
        return DONE
    if wrong := [a for a in args if a.lstrip("-").partition("=")[0] in config.GROUPS and (a[0] == "-" or "=" not in a)]:
        return _say(f"{wrong[0]}: write {wrong[0].strip('-').partition('=')[0]}=VALUE", WRONG)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises instead of printing and exiting
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if resumed := [a for a in args if a.startswith("resume=") and a != "resume=null"]:
            return _resume(resumed[0].partition("=")[2], [a for a in args if a not in resumed])
        config.register()
        hydra.main(version_base="1.3", config_path=str(config.CONFIGS), config_name="config")(job)()
        if Callbacks.error is not None:
            raise Callbacks.error
        return FAILED if Callbacks.failed else DONE
    except UserError as error:
        return _say(str(error), WRONG)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if Callbacks.sweep_dir is not None and not any(p.is_dir() for p in Callbacks.sweep_dir.iterdir()):
            _remove(Callbacks.sweep_dir)
        return _say(hydra_message(error, args), WRONG)
    except NotFinite as error:
        return _say(str(error), FAILED)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if Callbacks.error is not None:
            raise  # not from Hydra making the run directory
        return _say(f"{error.filename}: {error.strerror}", WRONG)
    except (KeyboardInterrupt, Interrupted) as error:
        if Callbacks.sweep_dir is not None:
            _report_sweep()
        stopped = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        how = f"; resume with: python train.py resume={stopped.resumable}" if stopped.resumable else ""
        return _say(f"interrupted{how}", 128 + stopped.signum)


def _interrupt(signum: int, frame: object) -> None:
    raise Interrupted(signum)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _resume(folder: str, others: list[str]) -> int:
    if others:
        why = f"uses the config of the run; leave out {' '.join(others)}"
        raise ConfigError("resume", folder, why)
    from autoenc import run

    run.resume(Path(folder.rstrip("/")))
    return DONE
