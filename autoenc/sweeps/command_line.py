"""The command line of a sweep: that of one which resumes, and that of runs which train at once."""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from autoenc.errors import ConfigError, DataError, keys_below, one_line
from autoenc.files import check_inside, plain_yaml, read_text
from autoenc.sweeps.folders import number_of
from autoenc.training.settings import TrainerSettings

REPLICAS = "trainer.replicas"
STORED = "multirun.yaml"  # Hydra writes it before the first job
LAUNCHER = ("hydra/launcher", "hydra.launcher.")  # settings that may change when a sweep resumes
TOGETHER = "hydra.callbacks.autoenc.together"  # the jobs train at once
OWN = ("hydra.mode", "hydra.sweep.dir")  # settings that are set anew
SUBDIR = re.compile(r"(?:[\w=,-]|\$\{hydra\.job\.num\}|\$\{short:\$\{hydra\.overrides\.task\}\})+", re.ASCII)


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (folder / STORED).is_file()


def arguments(folder: Path, others: list[str]) -> list[str]:
    """Return the command line that continues a sweep.

    Args:
        others: settings of the launcher, which may differ from before.

    Raises:
        ConfigError: another setting would change. DataError: the stored command line is damaged.
    """
    if wrong := [other for other in others if not other.startswith(LAUNCHER)]:
        why = f"a sweep resumes with its own settings, of which only hydra/launcher may change; leave out {wrong[0]}"
        raise ConfigError("resume", folder, why)
    check_inside(folder)
    place = folder / STORED
    try:
        overrides = plain_yaml(read_text(place))["hydra"]["overrides"]
        task, own = ([str(text) for text in overrides[part]] for part in ("task", "hydra"))
        parsed = OverridesParser.create().parse_overrides([*task, *own])
    except (OSError, ValueError, KeyError, TypeError, HydraException):
        raise DataError(f"{place}: is damaged: it has no hydra.overrides.task") from None
    for text, override in zip(task, parsed, strict=False):
        if "hydra" in (override.key_or_group[:5], (override.package or "")[:5]) or override.key_or_group == "resume":
            raise DataError(f"{place}: {text} is no setting of a run")
    kept = []
    for text, override in zip(own, parsed[len(task) :], strict=True):
        key = override.key_or_group
        if key == TOGETHER and others:
            raise ConfigError("resume", folder, f"the jobs train at once, in one process; leave out {others[0]}")
        if key.startswith(LAUNCHER):
            kept += [] if others else [text]
        elif key == TOGETHER or (key == "hydra.sweep.subdir" and SUBDIR.fullmatch(str(override.value()))):
            kept.append(text)
        elif key not in OWN:
            why = f"the sweep was started with {text}, with which a sweep does not resume"
            raise ConfigError("resume", folder, why)
    quoted = str(folder).replace("'", "\\'")
    return ["-m", *task, *kept, *others, f"hydra.sweep.dir='{quoted}'"]


def check_jobs(folder: Path, jobs: list[list[str]]) -> None:
    """Refuse a sweep whose folders hold other jobs than its command line has.

    Raises:
        ConfigError: the first job that differs.
    """
    for path in sorted(folder.glob("*/.hydra/overrides.yaml")):
        name = path.parts[-3]
        number = number_of(name)
        if number is None:
            continue
        try:
            stored = [str(text) for text in plain_yaml(read_text(path)) or []]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: is damaged ({one_line(error)})") from None
        if number >= len(jobs) or stored != jobs[number]:
            why = f"{name} was trained with {' '.join(stored)}, which is not job {number} of {STORED}"
            raise ConfigError("resume", folder, why)


def replicated(args: list[str]) -> list[str]:
    """Return a command line with `trainer.replicas=R` as that of a sweep over R seeds whose jobs train at once.

    Raises:
        ConfigError: another argument contradicts it.
    """
    values = {a.lstrip("+").partition("=")[0]: a.partition("=")[2] for a in args if "=" in a}
    count, first = values.get(REPLICAS, ""), values.get("seed", "0")
    if not count.isdecimal() or any(a.startswith("-") and a not in ("-m", "--multirun") for a in args):
        return args  # the config is only shown, or wrong
    with keys_below("trainer"):
        TrainerSettings(replicas=int(count))
    if not first.isdecimal():
        raise ConfigError("seed", first, f"{REPLICAS}={count} trains this seed and the next ones: give one number")
    for key in ("hydra.run.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra/sweeper"):
        if key in values:
            instead = "name the folder of its runs by hydra.sweep.dir" if key == "hydra.run.dir" else "leave it out"
            raise ConfigError(key, values[key], f"{REPLICAS}={count} is a sweep in one process; {instead}")
    others = [a for a in args if a.lstrip("+").partition("=")[0] not in (REPLICAS, "seed", "-m", "--multirun")]
    seeds = ",".join(map(str, range(int(first), int(first) + int(count))))
    return ["-m", *others, f"seed={seeds}", f"{TOGETHER}=true"]
