# Two commands are enough: `make demo` and `make test`. Both create .venv and install into it first.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

# uv does not read pip's settings. Where pip knows a folder of wheels, torch comes from there; elsewhere uv picks the
# build of torch that fits the machine (CPU, CUDA or MPS).
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= auto
endif

.PHONY: help demo quick story up down test test-slow check format install constraints clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/.installed ## create .venv and install evodiff into it

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "evodiff needs Python 3.11 or newer; none was found. Name one: make PYTHON=/path/to/python3"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "Python cannot make virtual environments; install its venv module (Debian: apt-get install python3-venv)"; exit 2; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev,pipeline]'
	@echo "Compiling what was installed, a minute once: tasks and workers are processes, and each would do it again"
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true # some packages ship templates that are no Python
	@touch $@

demo: install ## evolve small diffusion models on digits by Airflow, in a few minutes; KEEP=1 leaves it running
	$(BIN)/evodiff demo $(if $(KEEP),--keep)

quick: install ## the same search without Airflow, with a random search beside it
	$(BIN)/evodiff evolve --dataset digits --generations 3 --population 8 --workers $(WORKERS) --baseline

story: install ## the whole loop by real processes, in ten minutes: released, rolled back, degraded, evolved again
	$(BIN)/python -m evodiff.local.story

up: install ## start Airflow, MLflow, router and what watches on this machine
	$(BIN)/evodiff up

down: ## end what `make up` started
	@test ! -x $(BIN)/evodiff || $(BIN)/evodiff down

test: install ## run all tests but the slow ones
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: install ## the tests that take minutes each
	$(BIN)/pytest -m slow

check: install ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: install ## resolve constraints.txt anew, for every platform
	env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --all-extras --no-header --no-annotate \
	  --upgrade pyproject.toml --constraint pins.txt --output-file constraints.txt

clean: ## remove caches; runs and .venv stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
