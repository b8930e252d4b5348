# make demo and make test each work as the first command on a machine; `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
# One installation serves every target; it is made again when what it depends on changes.
STAMP := .venv/.installed

.PHONY: help demo test lint bench bench-peers clean

help:
	@echo "make demo         run the example pipeline"
	@echo "make test         run the tests"
	@echo "make lint         ruff, mypy, import-linter"
	@echo "make bench        what flowcore costs, beside floors measured in the same run"
	@echo "make bench-peers  other libraries on the same work, each in an environment of its own"
	@echo "make clean        remove .venv, caches and what the examples wrote"

demo: $(STAMP)
	@$(BIN)/python examples/breast_cancer.py

test: $(STAMP)
	@$(BIN)/python -m pytest -q

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict
	@$(BIN)/mypy --strict examples/breast_cancer.py examples/search.py
	@$(BIN)/lint-imports

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

bench-peers: $(STAMP)
	@$(BIN)/python -m benchmarks.peers

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up .venv (once; this takes a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "flowcore needs Python 3.11 or later: make PYTHON=python3.x")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $(STAMP)

clean:
	rm -rf .venv build dist data .flowcore .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
