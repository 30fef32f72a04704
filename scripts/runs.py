"""List the runs below a folder with state, age, size on disk and main test metric; remove those that are named."""

from __future__ import annotations

import argparse

from autoenc.command import Parser, Results, execute

WIDE = 400  # characters of a table that is no screen's: paths are whole, to be copied
EXAMPLES = """examples:
  python scripts/runs.py                              every run below outputs/, the newest first
  python scripts/runs.py outputs/digits
  python scripts/runs.py --remove RUN RUN             asks first; --yes does not
"""


def main(args: argparse.Namespace) -> Results:
    """List or remove."""
    from autoenc.apps.protocol import runs
    from autoenc.errors import UserError, counted
    from autoenc.screen import console, method_table

    if args.yes and not args.remove:
        raise UserError("--yes is for --remove")
    screen = console()
    if not args.remove:
        rows = runs.listing(args.folder)
        if not screen.is_terminal:
            screen.width = WIDE
        screen.print(method_table(counted(len(rows), "runs"), runs.described(rows)))
        return rows
    chosen = runs.check_removable(args.remove)
    for path in chosen:
        screen.print(f"{path}: {runs.size(path) / 1e6:,.1f} MB")
    if not args.yes:
        try:
            answer = input("Remove? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise UserError("nothing was removed; answer y, or add --yes")
    runs.remove(chosen)
    screen.print(f"removed {len(chosen)}")
    return {"removed": [str(path) for path in chosen]}


if __name__ == "__main__":
    arguments = Parser(description=__doc__, epilog=EXAMPLES)
    arguments.add_argument("folder", nargs="?", default="outputs", metavar="FOLDER", help="default: outputs")
    arguments.add_argument("--remove", nargs="+", metavar="RUN", help="run directories to remove")
    arguments.add_argument("--yes", action="store_true", help="remove without asking")
    execute(main, arguments)
