# `make run` and `make test` need Python 3.11 or newer and, for the first installation, network access.
PYTHON ?= python3
BIN := .venv/bin
BUDGET ?= 30
ROWS ?=

.PHONY: run test help setup check bench reproduce tensorboard clean

run: setup  ## train a VAE on the digits that scikit-learn ships
	$(BIN)/python train.py model=vae

test: setup  ## run the tests
	$(BIN)/python -m pytest

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed  ## install into .venv

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "autoenc needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

check: setup  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## measure the results of docs/results.md; needs the data sets of docs/data.md in data/
	for part in bench bench_speed bench_apps bench_data bench_tables bench_text bench_defects; do \
	  $(BIN)/python benchmarks/$$part.py || failed=1; done; exit $${failed:-0}

reproduce: setup  ## measure published claims: BUDGET=30 (minutes), ROWS=vae,iwae (by name); writes docs/results.md
	$(BIN)/python benchmarks/reproduce.py --budget $(BUDGET) --rows '$(ROWS)'

tensorboard: setup  ## serve TensorBoard on outputs/
	$(BIN)/tensorboard --logdir outputs

clean:  ## remove the installation and caches; keep outputs/ and data/
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
