# Every target makes the virtual environment by itself; a second run starts at once.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SEEDS ?= 1000000
ROUNDS ?= 10
SECONDS ?= 3600
QUICK := $(wildcard tests/unit tests/property tests/traces)

.PHONY: demo test check bench chaos soak simulate format clean

## A word count on a real Kafka, killed halfway; DEMO_SECONDS=20 shortens it.
demo: $(STAMP)
	$(PY) -m kstash.apps.demo

## Everything: quick tests and simulation in two processes, then what needs a broker, one by one.
test: $(STAMP)
	$(PY) -m pytest -q -n 2 --hypothesis-profile=ci $(QUICK) $(wildcard tests/simulation)
	$(PY) -m pytest -q tests/integration tests/chaos

## Format, lint, types, layers, docstrings and the quick tests; two minutes at most.
check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/interrogate -q kstash apps
	$(PY) -m pytest -q -n 2 $(QUICK)

## Speed and latency of the four guarantees side by side, recovery time, cost of checkpoints.
bench: $(STAMP)
	$(PY) -m benchmarks

## Storms of all faults on three brokers, as many rounds as wanted, each with another seed; a table.
chaos: $(STAMP)
	$(PY) -m tests.chaos --rounds $(ROUNDS)

## A long quiet run: memory, file handles and topics must stay flat. An hour, or SECONDS.
soak: $(STAMP)
	$(PY) -m tests.chaos.soak --seconds $(SECONDS)

## The protocol's simulator for as many seeds as wanted.
simulate: $(STAMP)
	$(PY) -m tests.simulation --seeds $(SEEDS)

format: $(STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kstash needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
