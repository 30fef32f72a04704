"""Errors that users can correct: one line, exit code 2, no traceback."""

import difflib
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Signals that stop a run after a checkpoint: Ctrl-C, kill, a closed terminal.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

PLURAL = re.compile(r"(?<=ss)es\b|(?<!s)s\b")  # the ending of a noun
VERB = {"are": "is", "have": "has"}


class UserError(Exception):
    """The config, the command line or the data is invalid; the message gives the remedy."""


class ConfigError(UserError):
    """A config key has an invalid value.

    A part raises it with the name of its argument; `build` and `config` prepend the path of the part, so that the
    message has the full key: `noise.p=1.5: must lie in [0, 1]`.
    """

    def __init__(self, key: str, value: object, why: str):
        self.key, self.value, self.why = key, value, why
        super().__init__(f"{key}={value}: {why}" if value is not None else f"{key}: {why}")

    def under(self, path: str) -> "ConfigError":
        """Return the same error with `path` prepended to the key."""
        return ConfigError(".".join(part for part in (path, self.key) if part), self.value, self.why)


class DataError(UserError):
    """A data file is missing, unreadable or unsuitable."""


class DataChanged(DataError):
    """The training data is not the data that a run was trained on."""


class NotFinite(Exception):
    """A term of the objective became infinite or NaN; training cannot continue."""


class Pruned(Exception):
    """A search stopped a run: other runs of the search had better validation values after as many epochs."""


class ProcessLost(Exception):
    """Another process of a run that torchrun has started has ended."""


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP was received. Not an Exception, so that `except Exception` does not catch it."""

    def __init__(self, signum: int, resumable: str = ""):
        self.signum = signum
        self.resumable = resumable  # run directory with a checkpoint to resume from
        super().__init__(f"interrupted by signal {signum}")


def require(condition: bool, key: str, value: object, why: str) -> None:
    """Raise ConfigError for `key` unless `condition` holds."""
    if not condition:
        raise ConfigError(key, value, why)


@contextmanager
def keys_below(path: str) -> Iterator[None]:
    """Prepend `path` to the key of a ConfigError that is raised inside."""
    try:
        yield
    except ConfigError as error:
        raise error.under(path) from None


def one_line(error: BaseException) -> str:
    """Return the first non-empty line of an error message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def counted(n: int, nouns: str, of: int | None = None) -> str:
    """Return a number and a plural noun phrase, in the singular for 1: 1 block of 24 steps.

    A verb at the end, are or have, agrees with the number: 1 row is, 1 of 12 rows has (`of=12`).
    """
    rest, _, verb = nouns.rpartition(" ")
    if n == 1 and verb in VERB:
        nouns = f"{rest} {VERB[verb]}"
    if (n if of is None else of) == 1:
        nouns = PLURAL.sub("", nouns, count=1)
    return f"{n:,} {nouns}" if of is None else f"{n:,} of {of:,} {nouns}"


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return `did you mean ...?` or a list of the choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word.lower().replace("-", "_"), choices, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"choose from {', '.join(choices)}" if choices else "it takes no options"


def check_new(path: Path, force: bool = False) -> None:
    """Raise UserError if a file exists, unless it may be overwritten."""
    if path.exists() and not force:
        raise UserError(f"{path}: already exists; --force overwrites it")


def failure(error: BaseException) -> tuple[str, bool]:
    """Return what to say of an error that has ended a run, and whether it is known, so that no trace is needed."""
    known = isinstance(error, UserError | NotFinite) or out_of_memory(error)
    return ("" if known else f"{type(error).__name__}: ") + reason_of(error), known


def reason_of(error: BaseException) -> str:
    """Return an error on one line; of one for want of memory, say so."""
    return f"out of memory ({one_line(error)})" if out_of_memory(error) else one_line(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in Python, NumPy or torch, on the CPU or a GPU."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("allocate memory" in text or "not enough memory" in text))
    )
