"""The command line of train.py: Hydra composes the config; errors are one line with an exit code.

Imports no torch before training, so that `--help` is fast.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from autoenc import __version__, launched
from autoenc.config import schema
from autoenc.config.arguments import argument_message, launcher_message, new_length, split_resume
from autoenc.config.messages import hydra_message
from autoenc.errors import (
    STOPS,
    Interrupted,
    NotFinite,
    ProcessLost,
    UserError,
    one_line,
    out_of_memory,
    reason_of,
    require,
)
from autoenc.forked import Sweep, interrupt
from autoenc.hooks import DONE, FAILED, WRONG, Callbacks, denied, job, remove, say
from autoenc.streams import tolerant_streams
from autoenc.sweeps import command_line
from autoenc.sweeps.running import sweep

KILLED = ("TerminatedWorkerError", "UncompletedJobError")  # errors of joblib and submitit

HELP = """\
autoenc: train an autoencoder

  python train.py model=vae                                   on data included in scikit-learn
  python train.py model=dae data=mnist noise=gaussian noise.std=0.5 network=conv
  python train.py -m model=ae,vae model.latent_dim=2,4,8,16   a sweep, with a table, a CSV and a plot

  python train.py model=vae trainer.replicas=8     eight seeds at once; with -m also values of weights and optimizer.lr

  python train.py resume=RUN       resume an interrupted run, or a sweep: what is finished is kept
  python train.py resume=RUN trainer.epochs=120    train a finished run for longer
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
    for group in schema.GROUPS:
        lines.append(f"  {group}")
        lines += [f"    {name:<22}{about}" for name, about in schema.choices(group)]
    return "\n".join(lines) + "\n" + KEYS


def main() -> int:
    """Run and return the exit code: 0 success, 2 invalid config or data, 130 or 143 interrupted, 1 other failures."""
    args = sys.argv[1:]
    if {"--help", "-h"} & set(args):
        print(help_text() if launched.rank() == 0 else "", end="")
        return DONE
    if "--version" in args:
        print(f"autoenc {__version__}")
        return DONE
    launched.single_blas_thread()
    if launched.rank() > 0:
        with tolerant_streams():
            return _left(_assist())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises instead of printing and exiting
    for s in STOPS:
        if signal.getsignal(s) != signal.SIG_IGN:  # nohup
            signal.signal(s, interrupt)
    with tolerant_streams(), Callbacks.held:
        code = _run(args)
        if launched.processes() > 1 and not launched.Meeting.held and code in (DONE, WRONG, FAILED):
            from autoenc import run

            run.dismiss()
        return _left(code)


def _left(code: int) -> int:
    """Return the exit code, or end here if this process has joined others, whose exchange leaves threads behind.

    With them, the interpreter sometimes aborts at its end, and torchrun takes a finished run for a failed one.
    """
    if launched.Meeting.held:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _assist() -> int:
    """Train with the first process of a run, and leave it to that process to print what concerns all."""
    from autoenc import run

    try:
        run.assist()
        return DONE
    except UserError as error:
        return say(f"process {launched.rank()}: {error}", WRONG)
    except NotFinite:
        return FAILED
    except ProcessLost as error:  # the first process may be the one
        return say(str(error), FAILED) if launched.rank() == 1 else FAILED
    except Interrupted as error:
        return 128 + error.signum
    except Exception as error:
        if not out_of_memory(error):
            raise
        return say(f"process {launched.rank()}: {reason_of(error)}; try a smaller trainer.batch_size", FAILED)


def _run(args: list[str]) -> int:
    folder = None  # of a run or sweep that resumes
    try:
        if wrong := argument_message(args):
            return say(wrong, WRONG)
        several = [a for a in args if a in ("-m", "--multirun") or a.startswith(f"{command_line.REPLICAS}=")]
        if launched.processes() > 1 and several:
            why = "torchrun trains one run at a time; leave it out: hydra/launcher=joblib trains several at once"
            return say(f"{several[0]}: {why}", WRONG)
        folder, others = split_resume(args)
        if folder is not None:
            if not command_line.is_sweep(folder):
                return _resume(folder, others)
            require(launched.processes() == 1, "resume", folder, "is a sweep, and torchrun trains one run at a time")
            sweep.resumed = True
            args = sys.argv[1:] = command_line.arguments(folder, others)
        elif (at_once := command_line.replicated(args)) != args:
            args = sys.argv[1:] = at_once
        if wrong := launcher_message(args):
            return say(wrong, WRONG)
        schema.register()
        hydra.main(version_base="1.3", config_path=str(schema.CONFIGS), config_name="config")(job)()
        if Callbacks.error is not None:
            raise Callbacks.error
        if Sweep.stopped is not None:
            raise Interrupted(Sweep.stopped)
        return FAILED if sweep.failed else DONE
    except UserError as error:
        return say(str(error), WRONG)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if sweep.folder is not None and not sweep.resumed and not any(p.is_dir() for p in sweep.folder.iterdir()):
            remove(sweep.folder)
        return say(hydra_message(error, args), WRONG)
    except (NotFinite, ProcessLost) as error:
        return say(str(error), FAILED)
    except SystemExit as left:  # of the callbacks, after one line
        return left.code if isinstance(left.code, int) else FAILED if left.code else DONE
    except (KeyboardInterrupt, Interrupted) as error:
        return _interrupted(error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT))
    except Exception as error:
        if out_of_memory(error):
            return say(f"{reason_of(error)}; try a smaller trainer.batch_size or a smaller model", FAILED)
        if line := denied(error):
            return say(line, WRONG)
        if sweep.folder is not None and type(error).__name__ in KILLED:
            if Sweep.stopped is not None:  # it reached workers that had no job yet
                return _interrupted(Interrupted(Sweep.stopped))
            sweep.report()
            return say(f"a process of the sweep was killed; resume with: python train.py resume={sweep.folder}", FAILED)
        if error is not Callbacks.error and isinstance(error, KeyError | ValueError) and folder is None:
            odd = next((a for a in args if a[:1] in "=~" or a.endswith("=null")), " ".join(args))
            return say(f"{odd}: cannot be applied to the config ({one_line(error)})", WRONG)  # by Hydra
        raise


def _interrupted(error: Interrupted) -> int:
    if sweep.folder is not None:
        sweep.report()
    resumable = sweep.folder or error.resumable
    how = f"; resume with: python train.py resume={resumable}" if resumable else ""
    return say(f"interrupted{how}", 128 + error.signum)


def _resume(folder: Path, others: list[str]) -> int:
    changes = new_length(folder, others)
    from autoenc import run

    run.resume(folder, changes)
    return DONE
