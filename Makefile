# Warmpath. Needs only python3 (>= 3.11) with venv, make and git; all else goes into .venv.
#
#   make demo        a small install, then real conversations through the router to two engines
#   make test        everything a developer needs, then the tests that take minutes, not more
#   make setup       only that install, so that .venv/bin/warmpath runs
#
# ARGS is passed on (make demo ARGS=--once). TORCH_INDEX=URL adds an index of torch's CPU-only
# wheels; without it pip takes the pinned torch from wherever it is configured to look.

VENV ?= .venv
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
  command -v $$name >/dev/null 2>&1 && \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
  { echo $$name; break; }; done)
TORCH_INDEX ?=
ARGS ?=
PYTEST_JOBS ?= 2

BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt
PYTEST = $(BIN)/python -m pytest -n $(PYTEST_JOBS)

# As make compiled has built the package; PYTHONSAFEPATH, or the checkout would come first.
COMPILED_PYTHON = PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:. $(BIN)/python

# Tests and checks measure the router, not how many threads torch can start on this machine.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format compiled test-compiled bench bench-routing clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(VENV)/.installed-dev

demo: $(VENV)/.installed-demo
	$(BIN)/warmpath demo $(ARGS)

test: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not tool and not gpu" $(ARGS)

test-all: $(VENV)/.installed-dev
	$(PYTEST) $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry router engine kernels --ignore DEP002 # extras are used by parts to come
	$(BIN)/warmpath validate policies/*.yaml
	$(BIN)/warmpath test policies
	$(BIN)/warmpath schema | cmp - policies/schema.json

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The package with its hot path as machine code: PYTHONPATH=build/compiled puts it in front.
compiled: $(VENV)/.installed-dev
	rm -rf build
	WARMPATH_COMPILE=1 $(PIP_INSTALL) --no-deps --target build/compiled .

test-compiled: compiled
	$(COMPILED_PYTHON) -m pytest -n $(PYTEST_JOBS) -o pythonpath= \
	  -m "not slow and not tool and not gpu" tests/core tests/proxy tests/processes $(ARGS)

bench: compiled
	$(COMPILED_PYTHON) -m bench.core
	$(COMPILED_PYTHON) -m bench.features
	$(COMPILED_PYTHON) -m bench.prefix
	$(BIN)/python -m bench.engine_decode
	$(BIN)/python -m bench.proxies $(ARGS)

# What a decision costs, then how good it is; both are run, and either may miss a target. Needs
# Mooncake's conversation trace: make bench-routing ARGS='--traces DIR'.
bench-routing: compiled
	$(COMPILED_PYTHON) -m bench.decision; cost=$$?; \
	  $(BIN)/python -m bench.routing $(ARGS) && exit $$cost

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment exists once pip is in it: a venv that was interrupted has a python but no pip.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "Warmpath needs python3 >= 3.11 on the PATH" \
	  "(or make PYTHON=/path/to/python3.11 ...)." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module." \
	  "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@touch $@

# Stamps: a second run installs nothing unless the requirements changed.
$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing the router and the engine into $(VENV) ..."
	$(PIP_INSTALL) --editable '.[engine]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	@echo "Installing everything a developer needs into $(VENV) ..."
	$(PIP_INSTALL) --editable '.[dev,dns,redis]'
	@touch $(VENV)/.installed-demo $@
