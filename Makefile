# make demo    run the main job on an embedded model     make check   lint and types
# make test    everything that must pass                  make setup   only the environment
PYTHON ?= python3
BIN := .venv/bin

setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[local,dev]'
	touch $@

demo: setup
	$(BIN)/leafmill demo

test: check
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: setup demo test check
