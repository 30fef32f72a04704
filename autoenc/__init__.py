"""autoenc: a laboratory for autoencoders."""

__version__ = "0.1.0"
