"""Common arguments, one-line errors and exit codes of the scripts. Imports no torch, so that `--help` is fast."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from autoenc import launched
from autoenc.errors import UserError, one_line, out_of_memory, suggest
from autoenc.files import finite
from autoenc.text import printable

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
OTHERS = {"overwrite": "force", "gpu": "cuda"}  # names in other programs -> options and values here
Results = Mapping[str, Any] | Sequence[Any]  # of a script, plain values


class Parser(argparse.ArgumentParser):
    """An argument parser with --json and one-line errors."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        about = "print the results as one JSON value on stdout, and everything else on stderr"
        self.add_argument("--json", action="store_true", help=about)

    def error(self, message: str) -> NoReturn:
        """Leave with one line, with a suggestion for a misspelt option or value."""
        if "arguments are required" in message:  # a misspelt one may be among them
            known = tuple(self._option_string_actions)
            given = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
            if misspelt := [name for name in given if not any(option.startswith(name) for option in known)]:
                message = f"unrecognized arguments: {misspelt[0]}"
        options = {name.strip("-").replace("-", "_"): name for name in self._option_string_actions}
        remedy = f"see {self.prog} --help"
        if unknown := re.match(r"unrecognized arguments: (?:.*? )??(--?[A-Za-z][\w-]*)", message):
            name = unknown[1].strip("-").replace("-", "_").lower()
            near = difflib.get_close_matches(OTHERS.get(name, name), options, n=1)
            message = f"{unknown[1]}: no such option"
            remedy = f"did you mean {options[near[0]]}?" if near else remedy
        elif wrong := re.match(r"argument (--[\w-]+): invalid choice: '?(.*?)'? \(choose from", message):
            choices = map(str, self._option_string_actions[wrong[1]].choices or ())
            message = f"{wrong[1]} {wrong[2]}: no such choice"
            remedy = suggest(OTHERS.get(wrong[2], wrong[2]), choices)
        self.exit(WRONG, f"{self.prog}: {message}; {remedy}\n")


def parser(
    doc: str | None, epilog: str = "", run: bool = True, output: str = "folder", several: bool = False
) -> Parser:
    """Return a parser with the arguments common to all scripts.

    Args:
        doc: docstring of the script. epilog: examples.
        run: whether the script takes a run directory.
        output: what --output names: a folder or a file.
        several: whether it takes several run directories; `run` is then a list.
    """
    arguments = Parser(description=doc, epilog=epilog)
    if run:
        about = f"latest, or a finished run directory{', or several' if several else ''}: outputs/<data>/<model>/<time>"
        arguments.add_argument("run", metavar="RUN", nargs="+" if several else None, help=about)
    default = "a folder in the run" if run else "nothing is written"
    arguments.add_argument(
        "--output",
        metavar=output.upper(),
        help=f"where to write results, missing folders are created (default: {default})",
    )
    arguments.add_argument("--force", action="store_true", help="overwrite existing results")
    arguments.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    return arguments


def add_input(arguments: argparse.ArgumentParser, what: str = "new data") -> None:
    """Add --input and --resize."""
    arguments.add_argument("--input", metavar="PATH", help=f"{what}: .csv .parquet .txt .npy .npz, an image, a folder")
    arguments.add_argument("--resize", action="store_true", help="scale images to the size that the run was trained on")


def positive(text: str) -> int:
    """Parse a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def fraction(text: str) -> float:
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


positive.__name__, fraction.__name__ = "whole number", "number"  # argparse: invalid <name> value: 'x'


def execute(main: Callable[[argparse.Namespace], Results], arguments: argparse.ArgumentParser) -> NoReturn:
    """Run a script and exit: 0 success, 2 invalid input (one line), 130 or 143 interrupted, 1 other failures.

    Args:
        main: prints for people and returns the results, which --json prints instead.
    """
    args = arguments.parse_args()
    launched.single_blas_thread()
    warnings.showwarning = _attention  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):
            results = main(args)
        if args.json:
            print(json.dumps(finite(results), indent=2))
        sys.stdout.flush()
    except UserError as error:
        _leave(WRONG, str(error))
    except KeyboardInterrupt:
        _leave(INTERRUPTED, "interrupted; nothing was written")
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        if error.errno is None:
            raise
        where = error.filename or getattr(args, "output", None) or getattr(args, "run", None) or arguments.prog
        _leave(WRONG, f"{where}: {error.strerror}")
    except Exception as error:
        if not out_of_memory(error):
            raise
        _leave(FAILED, f"out of memory ({one_line(error)}); use fewer rows or another --device")
    raise SystemExit(DONE)


def _leave(code: int, line: str) -> NoReturn:
    print(printable(line), file=sys.stderr)
    raise SystemExit(code)


def _attention(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    """Print warnings of this package as one line; those of libraries do not concern the user."""
    if category is UserWarning:
        print(f"Attention: {printable(message)}", file=sys.stderr)
