"""Write one HTML page about a run: data, numbers with baselines, verdict, figures, settings and commands.

Several runs that differ only in their seeds give means with 95 % intervals. The page is one file and needs no network.
Evaluate first (scripts/evaluate.py RUN): its sections are on the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import Parser, Results, execute

EXAMPLES = """examples:
  python scripts/report.py RUN
  python scripts/report.py outputs/sweeps/NAME/0_* outputs/sweeps/NAME/1_* --output report.html

result: report.html in the (first) run
"""


def main(args: argparse.Namespace) -> Results:
    """Read, write."""
    from autoenc.apps.protocol.run_page import run_page
    from autoenc.errors import UserError, check_new
    from autoenc.files import check_inside, write_text
    from autoenc.screen import console
    from autoenc.training.rundir import disk_errors, find_run

    folders = [find_run(path) for path in args.run]
    target = Path(args.output) if args.output else folders[0] / "report.html"
    if target.is_dir():
        raise UserError(f"--output {target}: is a folder; name a file")
    check_new(target, args.force)
    for folder in folders:
        check_inside(folder)
    text = run_page(folders)
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, text)
    console().print(f"written: {target}", soft_wrap=True)
    return {"file": str(target)}


if __name__ == "__main__":
    arguments = Parser(description=__doc__, epilog=EXAMPLES)
    arguments.add_argument("run", metavar="RUN", nargs="+", help="latest, or finished run directories")
    arguments.add_argument("--output", metavar="FILE", help="where to write the page (default: report.html in the run)")
    arguments.add_argument("--force", action="store_true", help="overwrite an existing page")
    execute(main, arguments)
