"""A laboratory for autoencoders, run from the command line.

from autoenc import load_run
run = load_run("outputs/digits/vae/...")
codes = run.encode(x)

run = autoenc.train(["model=vae", "trainer.epochs=3"])  # as on the command line
"""

from importlib import import_module
from typing import TYPE_CHECKING

from autoenc.launched import spin_briefly

if TYPE_CHECKING:
    from autoenc.loading import Run, load_run
    from autoenc.session import train

__version__ = "0.3.0"
__all__ = ["Run", "__version__", "load_run", "train"]

spin_briefly()


def __getattr__(name: str) -> object:
    """On first use: the package is imported by everything, and torch takes seconds."""
    if name in ("load_run", "Run"):
        return getattr(import_module("autoenc.loading"), name)
    if name == "train":
        return import_module("autoenc.session").train
    raise AttributeError(f"module 'autoenc' has no attribute '{name}'")
