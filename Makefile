# Needs nothing but make and python3. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo bench test lint format clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup:  ## install the tested stack and mmext into .venv (15 to 25 minutes once, then seconds)
	@$(PYTHON) tools/setup_env.py

demo: setup  ## train a network on data made here, test it, draw what it finds; TASK=cls, det, ic, ins, pose, seg, video, wide
	@$(BIN)/python tools/demo.py $(TASK)

bench: setup  ## measure speed and memory against other forms (about half an hour), update docs/benchmarks
	@$(BIN)/python tools/benchmarks/involution.py
	@$(BIN)/python tools/benchmarks/networks.py rednet
	@$(BIN)/python tools/benchmarks/networks.py ic_resnet --train
	@$(BIN)/python tools/benchmarks/inflated.py
	@$(BIN)/python tools/benchmarks/wider_resnet.py
	@$(BIN)/python tools/benchmarks/mxnet_params.py
	@$(BIN)/python tools/benchmarks/plot.py

test: setup  ## run the test suite, a process for each core (up to four); WORKERS=0: all in one
	@$(BIN)/python -m pytest tests -n $(WORKERS) --maxprocesses 4 --dist worksteal

lint: setup  ## check format, style and docstrings
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: setup  ## put the code in shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:  ## remove what the commands above made in this folder
	rm -rf $(VENV) build dist *.egg-info data/mini work_dirs/demo .pytest_cache .ruff_cache
