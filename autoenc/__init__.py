"""A laboratory for autoencoders, run from the command line.

from autoenc import load_run
run = load_run("outputs/digits/vae/...")
codes = run.encode(x)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoenc.loading import Run, load_run

__version__ = "0.2.0"
__all__ = ["Run", "__version__", "load_run"]


def __getattr__(name: str) -> object:
    """On first use: the package is imported by everything, and torch takes seconds."""
    if name in ("load_run", "Run"):
        return getattr(import_module("autoenc.loading"), name)
    raise AttributeError(f"module 'autoenc' has no attribute '{name}'")
