# The tasks of a developer. `make` alone lists them; variables in capitals can be given after them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUFF := $(BIN)/ruff
PLATFORMS := linux win32 sunos5
# name-of-the-program:Debian-package, for the tests with real processes and networks
SYSTEM_DEPS := ip:iproute2 nft:nftables gcc:gcc systemd-analyze:systemd nginx:nginx-light

.DEFAULT_GOAL := help
.PHONY: help test lint format demo sim sim-mutants model bench bench-peers faults docs build pyz deb clean system-deps

help: ## list these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: $(VENV)/installed ## run the tests (ARGS="-k name" goes to pytest)
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed ## check style, types on three platforms, and what imports what
	$(RUFF) check .
	$(RUFF) format --check .
	$(BIN)/lint-imports --no-cache
	@set -e; for platform in $(PLATFORMS); do \
	    echo "mypy --strict --platform $$platform"; \
	    $(BIN)/mypy --strict --platform $$platform --cache-dir .mypy_cache/$$platform \
	        -p ha_heartbeat; \
	done

format: $(VENV)/installed ## bring the code into shape
	$(RUFF) check --fix .
	$(RUFF) format .

demo: ## show a takeover with two members on this machine
	$(PYTHON) examples/demo.py

sim: ## simulate faults from one seed (SEED=n) or many (RUNS=n)
	$(PYTHON) -m ha_heartbeat.sim $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),100))

sim-mutants: ## remove each safety rule in turn, and see the simulator miss it (LIMIT=seconds)
	$(PYTHON) -m ha_heartbeat.sim.mutants $(if $(LIMIT),--limit $(LIMIT))

model: ## check every course of two members up to a depth (DEPTH=n, FAULTS=n)
	$(PYTHON) -m ha_heartbeat.sim.model --depth $(or $(DEPTH),9) --faults $(or $(FAULTS),2)

bench: ## measure takeovers and what a member costs (N=100, ARGS="--only kill")
	$(PYTHON) -S -E benchmarks/run.py $(if $(N),--takeovers $(N)) $(ARGS)

bench-peers: $(VENV)/installed ## measure ha-heartbeat beside other programs, into docs/comparison.md (N=20, ARGS="--only keepalived --measure host")
	$(BIN)/python benchmarks/peers/run.py $(if $(N),--trials $(N)) $(ARGS)

faults: $(VENV)/installed ## strike real members (FAULTS=200, SEED=n, ARGS="--list"; see docs/faults.md)
	$(BIN)/python -m faults $(if $(FAULTS),--faults $(FAULTS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

docs: ## make docs/states.md from the transition table, and docs/hbctl.1 from hbctl's parser
	$(PYTHON) -m ha_heartbeat.core.picture > docs/states.md
	COLUMNS=1000 $(PYTHON) -m ha_heartbeat.ctl.manual > docs/hbctl.1

pyz: ## make dist/ha_heartbeat.pyz: the whole program in one file
	$(PYTHON) packaging/pyz.py

deb: ## make the Debian package in dist/ (needs dpkg-deb)
	$(PYTHON) packaging/deb.py

build: $(VENV)/installed ## build the wheel and the source distribution into dist/
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build

clean: ## remove what the other tasks made
	rm -rf $(VENV) .venv-peers build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# RUNLEVEL=1 asks invoke-rc.d(8) to start none of their daemons.
# Never fails: a test that lacks one of these skips itself and says so.
system-deps: ## install the Debian packages some tests need (as root), or say what is missing
	@missing=; for dep in $(SYSTEM_DEPS); do \
	    PATH="$$PATH:/usr/sbin:/sbin" command -v "$${dep%%:*}" >/dev/null 2>&1 \
	        || missing="$$missing $${dep#*:}"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	    apt-get update -qq; \
	    apt-get install -y -qq --no-install-recommends $$missing && exit 0; \
	fi; \
	echo "not installed:$$missing; the tests that need them will be skipped."; \
	echo "To run them, too, as root: apt-get install$$missing"

# Made once, and again whenever pyproject.toml has changed.
$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@if [ ! -x $(BIN)/python ] && ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	            apt-get install -y -qq --no-install-recommends python3-venv; \
	    else \
	        echo "$(PYTHON) cannot make a virtual environment: its module ensurepip is missing." >&2; \
	        echo "On Debian, as root: apt-get install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
