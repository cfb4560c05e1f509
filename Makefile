# Two commands do all the set-up: `make run` and `make test`. `make help` lists the rest.

# The system's own Python, where it is new enough: an ordinary user can run it too, whoever installed the others.
PYTHON := $(shell for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find src python/src -name '*.py' -o -name '*.tsv') pyproject.toml python/pyproject.toml

.PHONY: help run stop test test-all test-cpython test-packages check bench payers soak lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/installed ## install, start the server on loopback, run an example through it
	@scripts/run

stop: ## stop the server that `make run` started
	@scripts/run stop

test: $(VENV)/installed-for-tests ## checks, then both wheels tested as installed (one group: GROUP=unit)
	@$(BIN)/python scripts/test.py $(if $(GROUP),--only $(GROUP))

test-all: $(VENV)/installed-for-tests ## that and what takes longer: bombs, long fuzzing, each boundary switched off (root)
	@$(BIN)/python scripts/test.py
	@$(BIN)/python scripts/test.py --long

test-cpython: $(VENV)/installed-for-tests ## CPython's own tests in sandboxes and plainly (root; half an hour a version; ARGS="--python 3.12")
	@$(BIN)/python scripts/cpython.py $(ARGS)

test-packages: $(VENV)/installed-for-tests ## the twelve packages most asked for, installed from the registry and put to work
	@$(BIN)/python scripts/packages.py

check: $(VENV)/installed-for-tests ## format, lint, types, floors
	@$(BIN)/python scripts/test.py --only checks

bench: $(VENV)/installed-for-tests ## measure against bare `python main.py`, and what each boundary costs
	@$(BIN)/python benchmarks/bench.py
	@$(BIN)/python benchmarks/boundaries.py
	@$(BIN)/python benchmarks/packages.py
	@[ $$(id -u) != 0 ] || $(BIN)/python benchmarks/images.py

payers: $(VENV)/installed-for-tests ## attack memory and time in every known way and see who pays for it (root, ten minutes)
	@$(BIN)/python benchmarks/who_pays.py

soak: $(VENV)/installed-for-tests ## 50,000 mixed executions: is every answer right, does anything grow (root, ten minutes)
	@$(BIN)/python benchmarks/soak.py

lock: $(VENV)/installed-for-tests ## take the newest versions into requirements-dev.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --no-emit-index-url --generate-hashes --no-annotate --upgrade \
		--python-version 3.11 --group dev --no-emit-package python-executor-client \
		pyproject.toml python/pyproject.toml --output-file requirements-dev.lock

clean: ## remove what the other commands made in this directory
	rm -rf $(VENV) build dist

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv here: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	@echo "Installing python-executor into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check ./python .
	@touch $@

$(VENV)/dependencies: $(VENV)/bin/python requirements-dev.lock
	@echo "Installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/dependencies $(SOURCES)
	@echo "Building both wheels and installing them"
	@rm -rf dist
	@$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist python
	@$(BIN)/python -m build --quiet --wheel --no-isolation --outdir dist .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall dist/*.whl
	@touch $@ $(VENV)/installed
