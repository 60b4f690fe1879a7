# Every target explains itself: make help
PYTHON ?= python3
BIN    := .venv/bin
export PYTHONPATH := $(CURDIR)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test unit lab sandbox lint bench soak

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 16

demo: .venv/.complete  ## set everything up and run the main job on a practice cluster
	@$(BIN)/python -m sandbox demo

test: .venv/.complete  ## set everything up and run all tests
	@$(BIN)/python -m sandbox build
	@$(BIN)/python -m pytest -q

unit: .venv/.complete  ## only the tests that need no server (seconds)
	@$(BIN)/python -m pytest -q --ignore=tests/practice --ignore=tests/sandbox --ignore=tests/notebooks

lab: .venv/.complete  ## JupyterLab beside a running practice cluster
	@$(BIN)/python -m sandbox lab

sandbox: .venv/.complete  ## the practice cluster in the foreground; it says how to reach it
	@$(BIN)/python -m sandbox

lint: .venv/.complete  ## ruff, type checker, import contract, Go's vet, notebooks without outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m sandbox vet
	@$(BIN)/python -m pytest -q tests/notebooks/test_contract.py

bench: .venv/.complete  ## every figure as a ratio of one run (about 25 min); var/bench/results.json
	@$(BIN)/python -m bench

soak: .venv/.complete  ## kill -9 and other accidents, many times
	@$(BIN)/python -m soak

.venv/.complete: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which: make PYTHON=python3.12 ..."; exit 1; }
	@echo "setting up .venv from requirements.txt (once; about 1 min) ..."
	@$(PYTHON) -m venv .venv \
	  || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)."; exit 1; }
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@
