# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.11 or later and make; everything else is installed into .venv.

.DEFAULT_GOAL := help
.PHONY: help solve test lint bench clean
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
WORKDIR := runs/solve

# Compiled programs are kept between runs; without this each run compiles anew.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1

help:  ## Print this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

solve: $(VENV)/.solve  ## Solve problems at several budgets; compare decoders.
	@echo "Solving with the embedded model (scripts/solve.py)"
	@$(PY) scripts/solve.py
	@echo "Comparing decoders at equal budgets (scripts/compare.py)"
	@$(PY) scripts/compare.py --config=configs/solve_demo.py \
	  --workdir=$(WORKDIR)

test: lint  ## Check format, lint and types, then run all tests.
	@echo "Testing on 8 simulated devices (pytest)"
	@$(PY) -m pytest -n 2 -q

lint: $(VENV)/.dev  ## Check format, lint and types.
	@echo "Checking format and lint (ruff) and types (pyrefly)"
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m pyrefly check

bench: $(VENV)/.bench  ## Time the engine; try to overspend budgets.
	@echo "Timing the engine beside its rivals (benchmarks/engine_speed.py)"
	@$(PY) -m benchmarks.engine_speed
	@echo "Trying to overspend (benchmarks/budgets.py)"
	@$(PY) -m benchmarks.budgets

clean:  ## Remove the environment, caches and runs.
	rm -rf $(VENV) .cache runs build dist jaxttc.egg-info .pytest_cache \
	  .ruff_cache .hypothesis

# The first interpreter of these that is new enough makes the environment.
$(PY):
	@set -e; for python in python3.11 python3 python3.12 python3.13; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	      2>/dev/null; then \
	    echo "Making $(VENV) with $$($$python --version)"; \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "jaxttc needs Python 3.11 or later, found" \
	  "$$(python3 --version 2>/dev/null || echo none);" \
	  "please install it (https://www.python.org) and try again" >&2; exit 1

$(VENV)/.solve: setup.py constraints.txt | $(PY)
	@echo "Installing jaxttc for CPU into $(VENV) (a few minutes, once)"
	@$(PIP) install -e ".[math,plot,log]" -c constraints.txt
	@touch $@

$(VENV)/.dev: setup.py constraints.txt | $(PY)
	@echo "Installing jaxttc and its test tools into $(VENV) (once)"
	@$(PIP) install -e ".[dev]" -c constraints.txt
	@touch $@

$(VENV)/.bench: setup.py constraints.txt | $(PY)
	@echo "Installing jaxttc and its rivals, torch among them, into $(VENV)"
	@$(PIP) install -e ".[bench,plot,math]" -c constraints.txt
	@touch $@
