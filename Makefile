# Every target makes the virtual environment by itself; a second run starts at once.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SEEDS ?= 1000000
ROUNDS ?= 10
MINUTES ?= 60
SECONDS ?= 3600
MODULES ?= $(patsubst kstash/%,%,$(filter-out %__init__.py,$(wildcard kstash/core/*.py kstash/runtime/*.py kstash/runtime/*/*.py)))
QUICK := tests/unit tests/property tests/traces tests/differential
# Images of Python often set it: then each of our hundreds of processes compiles all it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# tests/conftest.py says what is a proof.
PROOF := -m prove
NO_PROOF := -m "not prove"
# `make test AFTER=check`: of what `make check` has just run, only what tries more examples now.
QUICK_NOW := $(if $(filter check,$(AFTER)),-m "not prove and (hypothesis or simulation)",$(NO_PROOF))

.PHONY: demo docs test prove check chart chart-tools bench chaos adversary soak simulate mutants format clean

## A word count on a real Kafka, killed halfway; DEMO_SECONDS=20 shortens it.
demo: $(STAMP)
	$(PY) -m kstash.apps.demo

## For who has just cloned, twelve minutes at most: the quick tests, some simulation, a real Kafka.
test: $(STAMP)
	$(PY) -m pytest -q -n 2 $(QUICK_NOW) --hypothesis-profile=ci $(QUICK) tests/simulation
	$(PY) -m pytest -q $(NO_PROOF) tests/integration tests/chaos

## All other tests, what fails soonest first: what needs a broker goes one by one.
prove: $(STAMP)
	$(PY) -m pytest -q -n 2 $(PROOF) --hypothesis-profile=ci $(QUICK) tests/simulation
	$(PY) -m pytest -q $(PROOF) --durations=25 tests/integration tests/chaos

## The documentation as a site that needs no other host: open site/index.html.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "open site/index.html"

## Format, lint, types, layers, docstrings and the quick tests; two minutes at most.
check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/interrogate -q kstash apps
	$(PY) -m pytest -q -n 2 $(NO_PROOF) $(QUICK)

## The chart by Helm, kubeconform, kube-score and others, which are built first, once: some minutes. Needs Go.
chart: chart-tools
	$(PY) -m pytest -q tests/unit/deploy/test_values.py tests/unit/deploy/test_chart.py

## What `make chart` and the chart's tests in `make prove` need; without Go it says so, and they are skipped.
chart-tools: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt kubernetes-validate
	@deploy/tools.sh || { code=$$?; [ $$code = 3 ] || exit $$code; }

## Speed and latency of the four guarantees side by side, recovery time, cost of checkpoints.
bench: $(STAMP)
	$(PY) -m benchmarks

## Storms of all faults on three brokers, as many rounds as wanted, each with another seed; a table.
chaos: $(STAMP)
	$(PY) -m tests.chaos --rounds $(ROUNDS)

## Chains of stages killed where it hurts most, for so many minutes; seeds are printed; a table.
adversary: $(STAMP)
	$(PY) -m tests.chaos.adversary --minutes $(MINUTES)

## A long quiet run: memory, file handles and topics must stay flat. An hour, or SECONDS.
soak: $(STAMP)
	$(PY) -m tests.chaos.soak --seconds $(SECONDS)

## The protocol's simulator for as many seeds as wanted.
simulate: $(STAMP)
	$(PY) -m tests.simulation --seeds $(SEEDS)

## Mutations of the code itself: all of core and runtime (hours), or MODULES="core/sink.py"; survivors are listed.
mutants: $(STAMP)
	$(VENV)/bin/mutmut run $(foreach module,$(MODULES),"kstash.$(subst /,.,$(module:.py=)).*")
	$(VENV)/bin/mutmut results

format: $(STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants

# The versions that the tests passed with, so that a new release of somebody's breaks nobody's build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kstash needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@
