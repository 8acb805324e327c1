# Two commands matter: `make demo` and `make test`. Both set everything up first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup clients demo test check bench web lock wheels clean distclean

PYTEST_ARGS ?=
DEMO_ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## set up ./.venv (instant when nothing changed)
	@deploy/setup.sh

clients: setup
	@deploy/clients.sh

demo: setup ## fuse a batch of prompts with the models that ship (DEMO_ARGS="...")
	@.venv/bin/python -m local_fusion demo $(DEMO_ARGS)

test: clients ## the whole test suite (PYTEST_ARGS="...")
	@.venv/bin/python -m pytest $(PYTEST_ARGS)

check: setup ## ruff, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: setup ## throughput against the bare engines, calls through Ray, memory of the driver (NAMES="...")
	@.venv/bin/python -m benchmarks $(NAMES)

web: ## build the page that the server shows, into local_fusion/server/static (needs node and npm)
	@cd web && npm ci --ignore-scripts --silent && npm run --silent check && npm run --silent build

lock: setup ## write the hash-locked requirement files anew
	@deploy/lock.sh

wheels: setup ## fill a folder with every wheel, for machines without an index (DIR=wheels)
	@deploy/wheels.sh "$(or $(DIR),wheels)"

clean: ## remove caches
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .schemathesis build dist *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean ## remove caches and ./.venv
	rm -rf .venv .venv-clients
