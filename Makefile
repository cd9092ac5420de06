# Everything a person or a machine runs here; `make help` lists it.
# PYTHON     the interpreter that creates .venv (3.11 or newer)
# ARGS       arguments for the program that the target starts:  make play ARGS="--no-browser --port 8899"
# WORKERS    number of test processes, among which the cores are divided; many tests wait for others, so 3 fill two cores
# PIP_ARGS   arguments for pip, such as --extra-index-url https://download.pytorch.org/whl/cpu (no CUDA build of torch)

PYTHON ?= python3
ARGS ?=
WORKERS ?= 3
PIP_ARGS ?=

PIP_VERSION := 26.3# the one that Python brings may be too old to tell how far a pull is
VENV := .venv
BIN := $(VENV)/bin
NPM := $(BIN)/npm --silent run
STAMPS := $(VENV)/.stamps
OTHER_SYSTEMS = $(filter-out $(shell $(BIN)/python -c 'import sys; print(sys.platform)'),linux darwin win32)
KERNELS := $(wildcard workbench/engine/kernels/*.py)
PINS := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
# Says so where pip would download the CUDA build of torch.
TORCH_BUILD := $(BIN)/python scripts/torch_build.py --constraint constraints.txt $(PIP_ARGS)

# Tests that share what takes long to start are a group, and stay together; see tests/grouping.py.
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder
QUICK := not (bench or browser or kernel or model or ray or server)
# Before it starts any process, pytest imports the conftest of every folder that is named here; of tests/ it is a light one.
QUICK_FOLDERS := tests $(addprefix --ignore=tests/,benchmarks browser kernel laws)

# The suite starts hundreds of processes; without byte code each of them compiles the workbench anew.
unexport PYTHONDONTWRITEBYTECODE

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup play lab test test-js check lint bench notebooks docs models chromium clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMPS)/lab $(STAMPS)/compiled models ## create .venv with the pinned versions and pull the embedded models

play: setup ## set up, then open JupyterLab at the playground; ARGS="--no-browser --port 8899"
	@$(BIN)/workbench play $(ARGS)

lab: setup ## set up, then open JupyterLab in notebooks/
	@$(BIN)/workbench lab $(ARGS)

test: $(STAMPS)/test $(STAMPS)/compiled chromium models lint test-js ## set up, then run all gates, tests and notebooks; ARGS go to pytest
	@$(PYTEST) --nbval tests notebooks $(ARGS)

check: export FEWER_INPUTS := 1
check: $(STAMPS)/test $(STAMPS)/node ## run the gates and all tests that need no model, browser, kernel, Ray or server, as before a push
	@$(MAKE) --no-print-directory lint test-js & gates=$$!; \
	$(PYTEST) -m "$(QUICK)" $(QUICK_FOLDERS) $(ARGS) || failed=1; \
	wait $$gates && exit $${failed:-0}

lint: $(STAMPS)/test $(STAMPS)/node ## check formatting, lint, types and import directions of Python and JavaScript
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@printf '%s\n' $(OTHER_SYSTEMS) | xargs -P 2 -I {} $(BIN)/mypy --no-error-summary --platform {} --cache-dir .mypy_cache/{} workbench
	@$(BIN)/lint-imports --no-logo
	@$(NPM) format
	@$(NPM) types

test-js: $(STAMPS)/node
	@$(NPM) test

bench: $(STAMPS)/bench $(STAMPS)/compiled models ## run the tests marked bench: measure this machine, and break what the lessons claim
	@$(BIN)/python -m pytest -m bench -s tests/benchmarks tests/notebooks $(ARGS)

notebooks: $(STAMPS)/test $(STAMPS)/compiled models ## run the lessons and store their outputs; ARGS="02 05" runs only these
	@$(BIN)/python -m scripts.notebooks $(ARGS)

docs: $(STAMPS)/test ## build the documentation site in build/docs
	@$(BIN)/python scripts/docs_tables.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean
	@echo "build/docs/index.html"

clean: ## remove .venv, caches and build outputs; pulled models stay in the user's cache
	@rm -rf $(VENV) node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than the files that pin the versions as long as what they pin is installed.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Python 3.11 or newer is required; '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true)." \
	       "Choose another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) 'pip==$(PIP_VERSION)'
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/lab: $(STAMPS)/venv $(PINS)
	@$(TORCH_BUILD)
	@echo "Installing the pinned packages (a minute or two the first time) ..."
	@$(INSTALL) --editable '.[lab,serve,remote]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/venv $(PINS)
	@$(TORCH_BUILD)
	@echo "Installing the pinned packages and the test dependencies (a minute or two the first time) ..."
	@$(INSTALL) --editable '.[test]'
	@touch $@ $(STAMPS)/lab

$(STAMPS)/compiled: $(STAMPS)/venv $(KERNELS) | $(STAMPS)/lab
	@echo "Compiling the decode step for this processor (a minute or two, once) ..."
	@$(BIN)/python -c 'from workbench.engine.fused import compile_step; \
		from workbench.engine.kernels.simd import BF16, INT4; compile_step([BF16, INT4])'
	@touch $@

$(STAMPS)/node: package.json package-lock.json | $(STAMPS)/test
	@echo "Installing the JavaScript checkers in node_modules ..."
	@$(BIN)/npm ci --loglevel error >/dev/null
	@touch $@

$(STAMPS)/bench: $(STAMPS)/test
	@echo "Installing the programs to compare with ..."
	@$(INSTALL) --editable '.[test,bench]'
	@touch $@

models:
	@$(BIN)/workbench models pull --all

# Browser tests drive the system's chromium; an interpreter's package of it would be a download of its own.
chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing chromium for the browser tests ..."; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null; \
	  else \
	    echo "make: the browser tests need chromium: sudo apt-get install chromium." \
	         "Without it: make lint, then $(BIN)/python -m pytest -m 'not (browser or bench)'" >&2; exit 1; \
	  fi; }
