# `make run` and `make test` need Python 3.11 or newer, and a network for the first installation.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test setup check bench tensorboard clean

run: setup  ## train a VAE on the digits that scikit-learn ships
	$(BIN)/python train.py model=vae

test: setup
	$(BIN)/python -m pytest

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "autoenc needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## the figures of the README; needs the data sets that they name in data/
	for part in bench bench_apps bench_data bench_tables bench_text bench_defects; do \
	  $(BIN)/python benchmarks/$$part.py || failed=1; done; exit $${failed:-0}

tensorboard: setup
	$(BIN)/tensorboard --logdir outputs

clean:  ## what was installed and cached; outputs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
