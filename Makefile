# PYTHON picks an interpreter; without it the first of these that is 3.11 or newer is taken.
CANDIDATES := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
BIN := .venv/bin

# A question may hold any characters. Only its raw text is used, and it travels in the environment: neither make nor the
# shell ever expands it.
M ?= local
override Q := $(value Q)
override M := $(value M)
export Q M

.PHONY: help ask test lint bench bench-usage soak kill9 budgets lock docs clean question aimock venv-run venv-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

ask: question venv-run ## answer Q="..." with the embedded model, or with M=MODEL
	@$(BIN)/llm-master ask -m "$$M" --stream -- "$$Q"

question:
	@test -n "$$Q" || { echo 'usage: make ask Q="your question" [M=model]' >&2; exit 2; }

test: venv-dev aimock ## run every test; T="..." holds arguments for pytest
	@$(BIN)/python -m pytest -n 4 --dist loadfile $(T)

# A provider of somebody else's making. Without the npm registry its tests are skipped and say so.
aimock: venv-dev
	@$(BIN)/python tools/get_aimock.py

lint: venv-dev ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: venv-dev ## measure the cost of a call beside its peers; writes benchmarks/RESULTS.md
	@$(BIN)/python benchmarks/run.py

bench-usage: venv-dev ## measure reports over a ledger of a million calls
	@$(BIN)/python benchmarks/usage_rows.py

soak: venv-dev ## a minute of calls to a provider that fails in every way; fails when one is lost
	@$(BIN)/python -W error tools/soak.py

kill9: venv-dev ## kill processes under load; fails when a call that was answered is not in the ledger
	@$(BIN)/python -W error tools/kill9.py

budgets: venv-dev ## eight processes spend from one budget at once; fails when it is overrun
	@$(BIN)/python -W error tools/budget_run.py

lock: venv-dev ## write the hashed locks from setup.cfg; UPGRADE=1 takes the newest versions
	@$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

docs: venv-dev ## write the generated parts of the documentation
	@$(BIN)/python docs/generate.py

clean: ## remove what the other targets made
	rm -rf .venv tests/aimock/node_modules build dist llm_master.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first suitable interpreter becomes tools/make_venv.py, which does nothing when .venv holds what the locks say.
venv-run venv-dev:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec "$$python" tools/make_venv.py $(@:venv-%=%); \
	    fi; \
	done; \
	echo 'No Python 3.11 or newer with its venv module among: $(CANDIDATES).' >&2; \
	echo 'Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python3.12 ...' >&2; \
	exit 1
