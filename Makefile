# Needs Python 3.11 or newer and make; everything else is installed into .venv from hash-locked requirements.
PYTHON ?= python3
ARGS ?=
# Test processes; 0 runs in one (needed for --pdb).
# Twice the cores of CI: many tests wait for a wire and not for a processor.
JOBS ?= 4

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Nothing unhashed is installed and nothing is built from source: a package without a wheel is an error.
INSTALL := $(PIP) install --require-hashes --only-binary :all:
UV_VERSION := 0.13.9
COMPILE := build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock"
LOCK := $(COMPILE) pyproject.toml --extra tapes
# The shared recordings, which are no part of this repository.
DATA := $(or $(MMDAEMON_SHARED),../shared)/data

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Steps install into one .venv, in the order named.
.NOTPARALLEL:
.PHONY: help demo test check fmt bench lock clean venv venv-dev build/hft

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '%-15s %s\n' "$$name" "$$what"; done

demo: venv ## a fixed run at the simulated venue in virtual time
	$(BIN)/mmdaemon demo $(ARGS)

test: venv-dev ## the test suite (ARGS="-k book -x"; JOBS=0 for one process)
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

check: venv-dev ## lint, format, types, import rules, audit of dependencies; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m tests.audit

fmt: venv-dev ## mend what ruff can mend, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv-dev build/hft ## the benchmarks
	$(BIN)/python -m tests.bench $(ARGS)
	$(BIN)/python -m tests.bench.live
	@if [ -d "$(DATA)" ]; then set -x; $(BIN)/python -m tests.bench.hft "$(DATA)"; \
	else echo "make: no recordings at '$(DATA)' (MMDAEMON_SHARED names another folder): not compared with hftbacktest"; fi

lock: .venv/python ## make the lock files anew (ARGS=--upgrade for newer versions)
	$(BIN)/python -m venv build/lock
	build/lock/bin/pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)
	$(LOCK) --group build --output-file requirements.lock $(ARGS)
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock $(ARGS)
	$(COMPILE) tests/bench/hft/requirements.in --output-file tests/bench/hft/requirements.lock $(ARGS)

venv: .venv/base .venv/package ## .venv with what the daemon needs
venv-dev: .venv/dev .venv/package ## .venv with the development tools too
build/hft: build/hft/installed

clean: ## remove .venv, caches and build products; keeps .mmdaemon (run state)
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps. `dev` contains all of `base`, so it satisfies it: `make test` then `make demo` installs once.
.venv/python:
	@$(PYTHON) -c 'import sys' 2>/dev/null || { \
		echo "make: no Python at '$(PYTHON)'; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: mmdaemon needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name a newer one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: '$(PYTHON)' lacks venv or ensurepip; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/base: requirements.lock | .venv/python
	$(INSTALL) -r requirements.lock
	@touch $@

.venv/dev: requirements-dev.lock | .venv/python
	$(INSTALL) -r requirements-dev.lock
	@touch .venv/base $@

# hftbacktest, which `bench` compares with, in an environment of its own: numba and the rest stay out of .venv.
build/hft/installed: tests/bench/hft/requirements.lock | .venv/python
	$(BIN)/python -m venv --clear build/hft
	build/hft/bin/pip --disable-pip-version-check --quiet install --require-hashes --only-binary :all: -r $<
	@touch $@

# --no-index: the build backend is in the locks, so this step may not reach for the network.
.venv/package: pyproject.toml mmdaemon/__init__.py | .venv/python
	$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@
