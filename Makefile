# FlowReasoner. `make train` and `make test` make their environment themselves and reuse it the second time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VARIANT ?= cpu
VENV ?= .venv
ARGS ?=
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed-$(VARIANT)
# One more than there are cores, since many tests wait for a deadline.
TEST_WORKERS := $(shell expr $$(nproc) + 1)
# Files side by side: while one waits for what it killed, another works. About 4 GiB each; a GPU is not shared.
SLOW_WORKERS ?= $(if $(filter gpu,$(VARIANT)),1,2)
FAST := -m 'not slow and not gpu' --ignore=tests/slow --ignore=tests/cluster --ignore=tests/faults
SLOW := -m 'slow or gpu' --dist loadfile --no-loadscope-reorder
# Without cached bytecode every process would compile torch, vLLM and Ray anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env train test test-fast test-starved lint format types lock clean

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'
	@echo
	@echo '  ARGS="..."   settings or options passed on, for example: make train ARGS="trainer.seed=1"'
	@echo '  VARIANT=gpu  environment with the CUDA builds (default: cpu)'

$(INSTALLED): requirements/$(VARIANT).txt requirements/install.sh requirements/uv.sh
	@rm -f $(VENV)/.installed-*
	@requirements/install.sh $(VARIANT) $(VENV)
	@touch $@

env: $(INSTALLED) ## Make or refresh the virtual environment in .venv

train: $(INSTALLED) ## Distil, SFT, GRPO, evaluate, report (the embedded default: nano policy, simulated worker)
	@$(PYTHON) -m launch.train $(ARGS)

test: $(INSTALLED) ## All tests: the fast ones, then those that start Ray, vLLM or verl
	@echo '[test] fast tests (no Ray, no vLLM, no verl)'
	@$(PYTHON) -m pytest -q -n $(TEST_WORKERS) $(FAST) $(ARGS)
	@echo '[test] slow tests (they start Ray, vLLM and verl; several minutes on two cores)'
	@$(PYTHON) -m pytest -v -n $(SLOW_WORKERS) $(SLOW) $(ARGS)

test-fast: $(INSTALLED) ## The fast tests alone (under two minutes)
	@$(PYTHON) -m pytest -q -n $(TEST_WORKERS) $(FAST) $(ARGS)

test-starved: $(INSTALLED) ## The fast tests on one core, beside four processes that spin: none may fail for want of time
	@for spinner in 1 2 3 4; do taskset -c 0 $(PYTHON) -c 'while True: pass' & spinners="$${spinners-} $$!"; done; \
	trap 'kill $$spinners' EXIT; \
	taskset -c 0 $(PYTHON) -m pytest -q -n $(TEST_WORKERS) $(FAST) $(ARGS)

lint: $(INSTALLED) ## ruff: rules and format
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

format: $(INSTALLED) ## Let ruff repair what it can
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

types: $(INSTALLED) ## pyright over all packages
	@$(PYTHON) -m pyright

lock: ## Pin the dependencies of setup.py in requirements/*.txt (UPGRADE=1: newer versions)
	@requirements/lock.sh cpu
	@requirements/lock.sh gpu

clean: ## Remove the environment and caches; runs/ stays
	rm -rf $(VENV) .uv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
