# One command a purpose. Every target sets up what it needs in .venv, once, and again when the dependencies change.
PYTHON ?= python3
SERVE ?= 1
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
GPU := $(VENV)-gpu/.installed
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-gpu soak lint bench clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once; some minutes without a warm package cache)" >&2
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[cpu,demo]"
	@touch $@

$(DEV): $(RUN)
	$(INSTALL) ".[cpu,demo,dev]"
	@touch $@

demo: $(RUN) ## three collections from real input, five searches, then the service (SERVE=0: not the service)
	$(BIN)/python examples/demo.py
ifneq ($(SERVE),0)
	$(BIN)/polyseek serve
endif

serve: $(RUN) ## the service and its page over ./polyseek-data
	$(BIN)/polyseek serve

test: $(DEV) ## the tests
	$(BIN)/python -m pytest -m "not soak"

# FAISS's two builds exclude each other, so that this one has an environment of its own.
$(GPU): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-gpu
	$(VENV)-gpu/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".[gpu,dev]"
	@touch $@

test-gpu: $(GPU) ## the tests that need a GPU, where there is one
	$(VENV)-gpu/bin/python -m pytest -m gpu -rs

soak: $(DEV) ## the tests that take longer
	$(BIN)/python -m pytest -m soak

lint: $(DEV) ## format, lint, types, import directions, Dockerfile and compose file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

bench: $(DEV) ## the benchmarks, one after the other
	@set -e; for benchmark in benchmarks/[a-z]*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

clean: ## remove the environment and the caches, never the collections
	rm -rf $(VENV) $(VENV)-gpu .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
