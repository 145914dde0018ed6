# make train: set up and run the main job.  make test: set up and pass the tests.
# ARGS goes to the command, e.g. make train ARGS="teacher=lsa seed=1" or make test ARGS="-m slow".
# make docs: build the documentation into build/docs; a warning is an error.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=

.PHONY: train test lint docs clean

train: $(VENV)/.train
	$(VENV)/bin/cellgraph train $(ARGS)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/.docs
	$(VENV)/bin/python -m sphinx -q -W --keep-going -j auto $(ARGS) docs build/docs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: setup.cfg $(CONSTRAINTS) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -c $(CONSTRAINTS) -e ".[demo]"
	touch $@

$(VENV)/.test: setup.cfg $(CONSTRAINTS) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -c $(CONSTRAINTS) -e ".[demo,dev]"
	touch $@

$(VENV)/.docs: setup.cfg $(CONSTRAINTS) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q -c $(CONSTRAINTS) -e ".[demo,docs,serve]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
