# make quickstart   sets up, trains, samples and scores on embedded digits and spoken digits; ends with tables and reports
# make test         sets up, then checks style, types and, with the fast tests, behaviour: minutes
# make test-all     the same with all tests
# make faults       sets up, then lets faults strike every verb, and prints how each case ended
# make docs         sets up, then builds the site into site/
# make .venv        sets up only
PYTHON ?= python3
SEED ?= 0
EVERY ?= 4
BIN := .venv/bin
SEEDS := $(foreach section,tokenizer classifier prior,$(section).seed=$(SEED))

.PHONY: quickstart test test-all .venv

quickstart: .venv
	$(BIN)/simvq run configs/digits.yaml $(SEEDS)
	$(BIN)/simvq run configs/spoken_digits.yaml $(SEEDS)

# threads that wait sleep sooner, as in simvq itself, so that a busy machine is not stalled
test test-all: export GOMP_SPINCOUNT ?= 10000
test: TESTS := -m "not slow"
test-all: TESTS :=
test-all: export FAULTS_EVERY ?= 16
test test-all: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

# kills before every second change of a file, a quarter of the other faults that take a process, and all that take none;
# EVERY=2 kills before every change, EVERY=40 tries a tenth of the default's
.PHONY: faults
faults: export GOMP_SPINCOUNT ?= 10000
faults: .venv
	FAULTS_EVERY=$(EVERY) $(BIN)/python -m pytest -n 2 --dist worksteal tests/faults --durations=1

.PHONY: docs
docs: .venv
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv: .venv/installed

# twice quiet: once leaves a warning for every package that one of several indexes lacks
.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable ".[test]"
	touch $@
