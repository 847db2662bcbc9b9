# `make demo` and `make test` are all the set-up there is: each makes .venv if it has to.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check install
DEMO := results/phase_retrieval
BENCHMARKS := first_answer limit one_pass samplers multipass multipass_spread landscapes \
	multiindex curvature devices forecast

.DEFAULT_GOAL := help
# Test modules are rewritten once, and not by each process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test fast long lint docs bench bench-gpu clean

help:
	@echo "make demo    run configs/phase_retrieval.toml: prints a table, leaves $(DEMO)/"
	@echo "make test    run all tests but the longest"
	@echo "make long    run the longest tests"
	@echo "make fast    run the tests that take seconds"
	@echo "make lint    ruff and pyright"
	@echo "make docs    build the documentation into site/, and check its links"
	@echo "make bench   run the benchmarks: tables, and results/benchmarks/*.json"
	@echo "make bench-gpu  measure what an accelerator is for, on the device that JAX finds"
	@echo "make clean   remove .venv, results/, site/ and caches"

demo: $(VENV)/.run
	$(PY) -m hdjax run configs/phase_retrieval.toml --out $(DEMO) --force

# The types of all calls are checked in the fast tests alone, because it takes a seventh of the time.
test: fast
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal -m "slow and not long" --jaxtyping-packages=

long: $(VENV)/.dev
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal -m long --jaxtyping-packages=

fast: $(VENV)/.dev
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not slow"

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

bench: $(VENV)/.run
	@mkdir -p results/benchmarks
	for name in $(BENCHMARKS); do \
		$(PY) benchmarks/$$name.py --json results/benchmarks/$$name.json || exit 1; \
	done

bench-gpu: $(VENV)/.run
	@mkdir -p results/benchmarks
	$(PY) benchmarks/accelerator.py --json results/benchmarks/accelerator.json

clean:
	rm -rf $(VENV) results site .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml once everything that it asks for is installed.
$(VENV)/.run: $(VENV)/.made pyproject.toml
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(PIP) --editable ".[dev]"
	@touch $@ $(VENV)/.run

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(PIP) --editable ".[docs]"
	@touch $@ $(VENV)/.run

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): not found; Python 3.11 or newer is needed (make PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + " (make PYTHON=...)")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) comes without venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
