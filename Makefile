# L3-Net, AVE-Net, AVOL-Net in TensorFlow 2. `make help` lists what there is.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

PYTHON ?= python3
# One environment per Python version, built once and reused.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= .venv/$(PYTHON_VERSION)
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
READY := $(VENV)/.ready

.PHONY: help
help:  ## List every target
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  %-22s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(READY)  ## Make the virtual environment with the tested set of packages (PYTHON=python3.11)

$(READY): setup.cfg pyproject.toml tests/constraints.txt
	@test -n "$(PYTHON_VERSION)" || { echo "error: $(PYTHON) does not run; name one with make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: got Python $(PYTHON_VERSION); need 3.10 to 3.13: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@echo "Installing the tested set of packages into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[test]'
	@touch $@

.PHONY: test
test: $(READY)  ## Run the tests (under 6 minutes on two cores)
	$(BIN)/python -m pytest

.PHONY: test-slow
test-slow: $(READY)  ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow

.PHONY: lint
lint: $(READY)  ## Check style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
