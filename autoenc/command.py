"""What the scripts share: arguments, one-line errors, exit codes. Imports no torch, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from autoenc.errors import UserError

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message}; {self.prog} --help says more\n")


def parser(
    doc: str | None, epilog: str = "", run: bool = True, output: str = "folder", several: bool = False
) -> Parser:
    """The arguments that every script has.

    Args:
        doc: the docstring of the script. epilog: examples.
        run: whether it takes one run directory.
        output: what --output names: a folder or a file.
        several: whether it takes several run directories; `run` is then a list.
    """
    made = Parser(description=doc, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
    if run:
        about = f"a finished run directory{', or several' if several else ''}: outputs/<data>/<model>/<time>"
        made.add_argument("run", metavar="RUN", nargs="+" if several else None, help=about)
    default = "a folder in the run" if run else "the current folder"
    made.add_argument("--output", metavar=output.upper(), help=f"where results go (default: {default})")
    made.add_argument("--force", action="store_true", help="write over results that are there already")
    made.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    return made


def positive(text: str) -> int:
    """An argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def fraction(text: str) -> float:
    """An argument between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


positive.__name__, fraction.__name__ = "whole number", "number"  # argparse: invalid <name> value: 'x'


def execute(main: Callable[[argparse.Namespace], None], arguments: argparse.ArgumentParser,
            argv: Sequence[str] | None = None) -> NoReturn:  # fmt: skip
    """Run a script and exit: 0 done, 2 wrong input (one line), 130 and 143 interrupted, 1 anything else."""
    args = arguments.parse_args(argv)
    warnings.showwarning = _attention  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main(args)
        sys.stdout.flush()
    except UserError as error:
        _leave(WRONG, str(error))
    except KeyboardInterrupt:
        _leave(INTERRUPTED, "interrupted; nothing was written")
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        if error.filename is None:
            raise
        _leave(WRONG, f"{error.filename}: {error.strerror}")
    raise SystemExit(DONE)


def _leave(code: int, line: str) -> NoReturn:
    print(line, file=sys.stderr)
    raise SystemExit(code)


def _attention(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    """Our warnings as a line; those of libraries are about code that the person did not write."""
    if category is UserWarning:
        print(f"Attention: {message}", file=sys.stderr)
