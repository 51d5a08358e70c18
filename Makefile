# Every target makes .venv when it is missing and installs only what it needs; Python 3.11 or newer and make are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile -c constraints.txt
SOURCES := pyproject.toml constraints.txt
REPORT ?= report

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help report test search check docs bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-8s %s\n", $$1, $$2 }'

report: $(VENV)/.run ## the built-in digits network, looked at: report/index.html
	@echo "==> polylens report: the digits network (trained on the first run, then cached)"
	@$(BIN)/polylens report -o $(REPORT)
	@echo "==> done; open $(abspath $(REPORT))/index.html"

test: $(VENV)/.test ## the test suite with doctests; SLOW=1 for the long tests too
	@echo "==> pytest on 2 processes"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --durations=10 $(if $(SLOW),,-m "not slow")

search: $(VENV)/.test ## the property tests on examples that nobody has seen before
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --hypothesis-profile search -m hypothesis

check: $(VENV)/.lint ## formatting, lint, types
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> mypy --strict on src"
	@$(BIN)/mypy

docs: $(VENV)/.docs ## figures, executed notebooks and the site: site/index.html
	@echo "==> mkdocs build --strict (draws the figures and runs the notebooks first)"
	@$(BIN)/python docs/build.py
	@echo "==> done; open $(abspath site)/index.html"

bench: $(VENV)/.run ## the benchmarks; POLYLENS_BENCH=toy for sizes of seconds
	@if [ "$$POLYLENS_BENCH" = toy ]; then \
		ls benchmarks/bench_*.py | OMP_NUM_THREADS=1 xargs -P 2 -n 1 $(BIN)/python; \
	else \
		for script in benchmarks/bench_*.py; do echo "==> $$script"; $(BIN)/python $$script || exit 1; done; \
		$(BIN)/python benchmarks/table.py; \
	fi

clean: ## remove .venv and everything that is built
	@echo "==> removing $(VENV) and built files"
	@rm -rf $(VENV) build dist site $(REPORT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@echo "==> creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed; this is {v[0]}.{v[1]} (set PYTHON=...)")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(SOURCES) | $(VENV)/bin/python
	@echo "==> installing polylens and what it needs at run time"
	@$(PIP) -e .
	@touch $@

$(VENV)/.test: $(SOURCES) | $(VENV)/.run
	@echo "==> installing what the tests need"
	@$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.lint: $(SOURCES) | $(VENV)/.run
	@echo "==> installing ruff, mypy and what the types refer to"
	@$(PIP) -e '.[lint]'
	@touch $@

$(VENV)/.docs: $(SOURCES) | $(VENV)/.run
	@echo "==> installing what the docs site needs"
	@$(PIP) -e '.[docs]'
	@touch $@
