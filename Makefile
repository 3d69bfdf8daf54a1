# `make demo` and `make test` set themselves up; nothing outside this folder is changed but pip's cache
# and the model cache (CRAFTSFL_CACHE, default ~/.cache/craftsfl).
PYTHON ?= python3
VENV   ?= .venv
DIR    ?= demo
STAMP  := $(VENV)/.installed
BIN    := $(VENV)/bin

.PHONY: setup demo test test-all check proto clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "craftsfl needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/craftsfl demo --dir $(DIR)

test: setup
	$(BIN)/python -m pytest

test-all: setup
	$(BIN)/python -m pytest -m "slow or not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: setup
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
	  privacy/wire/envelope.proto privacy/wire/agent.proto
	$(BIN)/python -m grpc_tools.protoc -I. --grpc_python_out=. privacy/wire/agent.proto

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
