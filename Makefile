# `make demo` and `make test` set themselves up. Outside this folder they change only pip's cache and
# the model cache (CRAFTSFL_CACHE, default ~/.cache/craftsfl).
PYTHON ?= python3
VENV   ?= .venv
DIR    ?= demo
BASE   := $(VENV)/.base
STAMP  := $(VENV)/.installed
BIN    := $(VENV)/bin

# The machine with the GPU may have no network: it uses its own python3, and wheels brought along.
GPU_WHEELS  ?= .gpu-wheels
GPU_PYTHON  ?= 3.12
GPU_WITHOUT ?= none
GPU_SITE    := build/gpu-site
GPU_OUT     ?= build/gpu-check.json
_SYSTEMS    := 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5

# Why here and below: docs/adr/0067-what-a-test-need-not-pay-for.md
# Hundreds of processes import the same sources in `make test`: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-base demo quickstart test small-tests process-tests test-all check proto gpu-wheels gpu-check clean

setup: $(STAMP)

# What an auditor needs: takes seconds, without torch. `make setup` continues from there.
setup-base: $(BASE)

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "craftsfl needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) scripts/install.py $(VENV) --base
	@touch $(BASE)

$(STAMP): $(BASE)
	@$(PYTHON) scripts/install.py $(VENV)
	@touch $(STAMP)

demo: setup
	$(BIN)/craftsfl demo --dir $(DIR)

# The lines of docs/quickstart.md, as they stand; last line: round 1 after N commands, S s.
quickstart: setup
	@$(BIN)/python scripts/quickstart.py

# .ci/run adds the slow ones that are marked `ci`; test-all runs everything.
PROCESS_TESTS ?= integration and not slow
SMALL_TESTS   ?= not slow and not integration
# For two cores: small tests wait as well, for disks and other processes, and one of three is enough
# to wait. Real processes have deadlines: one test of theirs at a time, as long as that is not dearer.
PROCESS_WORKERS ?= 1
SMALL_WORKERS   ?= 3
# Tests' folders are in memory where 4 GB of it can be had: their small databases commit thousands of
# times, and would wait for a disk each time. No test ends the machine, so none sees the difference.
IN_MEMORY := $(shell grep -qs ' /dev/shm tmpfs [^ ]*noexec' /proc/mounts || \
  df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4e6 && $$6 == "/dev/shm" {print $$6}')
PYTEST := $(if $(IN_MEMORY),PYTEST_DEBUG_TEMPROOT=$(IN_MEMORY)) $(BIN)/python -m pytest

# Real Flower processes mostly wait, for time slots and for each other, while the small tests compute.
test: setup
	@$(MAKE) --no-print-directory --jobs=2 small-tests process-tests

small-tests: setup
	$(PYTEST) --numprocesses $(SMALL_WORKERS) --dist loadfile -m "$(SMALL_TESTS)"

# Only their files are collected. loadgroup: test by test; a file's longest come first.
process-tests: setup
	$(PYTEST) --numprocesses $(PROCESS_WORKERS) --dist loadgroup -m "$(PROCESS_TESTS)" \
	  $$(grep -rl --include='test_*.py' 'mark\.integration' tests | sort)

test-all: setup
	@$(MAKE) --no-print-directory --jobs=2 small-tests process-tests \
	  SMALL_TESTS="not integration" PROCESS_TESTS=integration PROCESS_WORKERS=2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

proto: setup
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. \
	  privacy/wire/envelope.proto privacy/wire/agent.proto
	$(BIN)/python -m grpc_tools.protoc -I. --grpc_python_out=. privacy/wire/agent.proto

gpu-wheels:
	rm -rf $(GPU_WHEELS)
	mkdir -p $(GPU_WHEELS)
	grep -vxF "$(GPU_WITHOUT)" bench/gpu_wheels.txt > $(GPU_WHEELS)/wanted.txt
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --implementation cp --python-version $(GPU_PYTHON) \
	  $(foreach system,$(_SYSTEMS),--platform manylinux_$(system)_x86_64) \
	  --constraint constraints.txt --requirement $(GPU_WHEELS)/wanted.txt --dest $(GPU_WHEELS)
	du -sh $(GPU_WHEELS)

gpu-check:
	@if [ -d $(GPU_WHEELS) ]; then rm -rf $(GPU_SITE); \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
	    --no-cache-dir --target $(GPU_SITE) $(GPU_WHEELS)/*.whl; fi
	@PYTHONPATH="$(CURDIR)/$(GPU_SITE):$$PYTHONPATH" $(PYTHON) -m bench.gpu_check --output $(GPU_OUT) $(GPU_ARGUMENTS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
