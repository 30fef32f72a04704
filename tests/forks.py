"""train.py in a forked process: it can be killed as one of its own, without the seconds that imports take."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoenc import cli
from autoenc.errors import STOPS
from autoenc.forked import preload


@dataclass
class Done:
    """How a process ended; negative: the number of the signal that killed it."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Forked:
    """A process that runs `python train.py` with some arguments."""

    pid: int
    folder: Path

    def wait(self, seconds: float = 180) -> Done:
        """Wait for its end; a process that does not end in time is killed."""
        deadline = time.monotonic() + seconds
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.01)
        status = ended[1]
        stdout, stderr = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        return Done(os.waitstatus_to_exitcode(status), stdout, stderr)


def start(
    folder: Path,
    cwd: Path,
    args: Sequence[str],
    before: Callable[[], object] = lambda: None,
    run: Callable[[], int | None] = cli.main,
) -> Forked:
    """Start train.py in `cwd`, with its output in files of a new `folder`; `before` is called first."""
    folder.mkdir()
    preload()  # once, what every fork would import
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # a collection would write to, and so copy, all pages that the processes share
        code = 1
        try:
            os.chdir(cwd)
            for fd, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), fd)
            sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
            for each in STOPS:
                signal.signal(each, signal.SIG_DFL)
            sys.argv = ["train.py", *args]
            before()
            code = run() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return Forked(pid, folder)
