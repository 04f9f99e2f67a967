# `make demo` and `make test` are all that most people need; `make help` lists the rest.
# Everything installed is pinned by version and hash in requirements/; nothing is installed outside .venv.
# PYTHON chooses the interpreter .venv is made with; ARGS is passed on to the demo, the tests and the benchmarks.

SHELL := /bin/bash -euo pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.12 python3.11 python3 python)
# Wheels only: building a package would run code and fetch tools that no hash has vouched for.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LOCKED := $(INSTALL) --require-hashes --only-binary :all:
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
# Two processes, on two cores: much of the tests' time is waiting for servers, of which each process has its own (a Kafka
# takes about 0.4 GB). A file stays in one process, and files start in their order: the long ones are not left to the end.
TEST_PROCESSES := -n 2 --dist loadfile --no-loadscope-reorder
CODE := schemas operators sources sinks flows tests bench

.PHONY: help setup setup-dev demo test check bench lock schemas clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(VENV)/.run ## make .venv with the command `attune` in it

setup-dev: $(VENV)/.dev ## the same, with what testing and checking need

demo: setup ## run everything on this machine and print the dashboard's address (ARGS='--seconds 60')
	$(BIN)/attune demo $(ARGS)

test: setup-dev ## run all tests (ARGS='-k window' for some, ARGS='-n 0' in one process)
	$(BIN)/python -m pytest $(TEST_PROCESSES) $(ARGS)

check: setup-dev ## lint, format, types, floors, schema files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m schemas.jsonschema --check
	$(BIN)/python -m sinks.websocket.asyncapi --check

bench: setup-dev ## measure throughput and latency on this machine
	$(BIN)/python -m bench $(ARGS)

lock: setup-dev ## pin what pyproject.toml asks for, with hashes (ARGS=--upgrade for newer indirect ones)
	$(COMPILE) $(ARGS) --group build --output-file requirements/run.txt pyproject.toml
	$(COMPILE) $(ARGS) --group build --group dev --constraint requirements/run.txt \
		--output-file requirements/dev.txt pyproject.toml

schemas: setup ## write the JSON Schema files and docs/asyncapi.json anew
	$(BIN)/python -m schemas.jsonschema
	$(BIN)/python -m sinks.websocket.asyncapi

clean: ## remove what the targets above have made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# A candidate counts only if it runs and is the right version: version managers leave shims on the path that only fail.
$(BIN)/python:
	@for candidate in $(CANDIDATES); do \
		if found=$$("$$candidate" -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13); print(sys.executable)' \
				2>/dev/null); then \
			echo "Making $(VENV) with $$found" >&2; \
			"$$found" -m venv --clear $(VENV) && exit 0; \
			echo "$$found could not make $(VENV): on Debian and Ubuntu, install its python3-venv package." >&2; \
			rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "Attune needs Python 3.11 or 3.12; tried: $(CANDIDATES). Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1

# --no-build-isolation: the build backend is the one from the lock, so nothing unhashed is fetched.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "Installing what requirements/run.txt pins into $(VENV): a minute or two, the first time only" >&2
	$(LOCKED) -r requirements/run.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing what testing and checking need (requirements/dev.txt)" >&2
	$(LOCKED) -r requirements/dev.txt
	@touch $@
