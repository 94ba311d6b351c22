# `make demo` and `make test` need only Python 3.11, make and git: they set up .venv by themselves.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := CURATION_IMAGES_ROOT=demo_workspace/images CURATION_LAKE_ROOT=demo_workspace/lake CURATION_MODEL_SOURCE=demo \
	CURATION_RECIPES=demo_workspace/recipes \
	MLFLOW_TRACKING_URI= MLFLOW_REGISTRY_URI=
export DAGSTER_HOME := $(CURDIR)/dagster_home
# `dg` compares it with the project's .venv and warns of another; and of Dagster's own preview of something not used here.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYTHONWARNINGS := ignore:Class `SparkDeclarativePipelineScaffolder` is currently in preview

.PHONY: help demo gallery-demo test dev dev-demo lint style types package format docs benchmark train-model evaluate-model clean

help:  ## Say what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/run-installed  ## Set up, then run the pipeline on sample photographs with the embedded model
	$(BIN)/curation demo

test: $(VENV)/dev-installed  ## Set up, then run every test
	$(BIN)/pytest -n auto

dev: $(VENV)/run-installed  ## Open Dagster's UI on http://127.0.0.1:3000, with daemon and sensors
	@echo "Dagster on http://127.0.0.1:3000 in some ten seconds; Ctrl-C ends it"
	@$(BIN)/dg dev --host 127.0.0.1

gallery-demo: demo  ## Open the demo's images in the gallery, on http://127.0.0.1:8080
	$(DEMO) $(BIN)/curation gallery

dev-demo: demo  ## The same, on the demo's images and tables
	@echo "Dagster on http://127.0.0.1:3000 in some ten seconds; Ctrl-C ends it"
	@$(DEMO) $(BIN)/dg dev --host 127.0.0.1

lint: style types  ## Lint, formatting, types, definitions

style: $(VENV)/dev-installed  ## Lint, formatting, definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/dg check defs

types: $(VENV)/dev-installed  ## Types
	$(BIN)/mypy

package: $(VENV)/dev-installed  ## Make the source archive and the wheel, in dist/
	rm -rf build dist
	$(BIN)/python -m build --no-isolation

format: $(VENV)/dev-installed  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/dev-installed  ## Write docs/settings.md anew, from the settings' own descriptions
	$(BIN)/python -m curation_assets.settings_page

benchmark: $(VENV)/dev-installed  ## Speed and memory of scan, rescan and embed
	$(BIN)/python -m benchmarks.pipeline

train-model: $(VENV)/dev-installed  ## Train the embedded model anew, or go on training it (seventy minutes on two cores)
	$(BIN)/python -m training.train

evaluate-model: $(VENV)/dev-installed  ## The table of the embedded model's card
	$(BIN)/python -m training.evaluate

clean:  ## Remove the environment and the demo's files
	rm -rf $(VENV) demo_workspace

# What is never imported needs no compiling, which would take longer than the rest.
unexport PYTHONDONTWRITEBYTECODE
# Spark comes as a source archive, of which pip makes a wheel that lives for some seconds: compressing it takes most of them.
INSTALL := DIST_EXTRA_CONFIG=$(CURDIR)/$(VENV)/wheels.cfg $(BIN)/pip install --disable-pip-version-check --no-compile -c constraints.txt
SAY := @echo "Installing into $(VENV): some minutes the first time, most of them for downloads (torch, Spark)"

$(VENV)/bin/pip:
	@echo "Making an environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@printf '[bdist_wheel]\ncompression = stored\n' > $(VENV)/wheels.cfg
	@# The one that comes with Python 3.11 takes twice the processor to find and unpack the same packages.
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt --upgrade pip \
		|| echo "Going on with the pip that is there"

$(VENV)/run-installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(SAY)
	@$(INSTALL) -e .
	@touch $@

$(VENV)/dev-installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(SAY)
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/run-installed

# Azure's storage for tests, where there is npm; without it they skip.
$(VENV)/azurite: | $(VENV)/bin/pip
	@npm install --silent --no-audit --no-fund --prefix $@ azurite@3.37.0
