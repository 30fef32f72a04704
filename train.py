"""Train an autoencoder: `python train.py model=vae`; `python train.py --help` shows what there is to choose."""

from autoenc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
