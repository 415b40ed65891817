# Two commands on a fresh machine: make run, make test. Python >= 3.11 with pip is all they need.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test soak lint docs clean

# both worlds: PPO on CartPole-v1 until solved, GRPO on a tiny language model until it adds; each is then judged on what it
# has not seen, from the saved checkpoint in a new process
run: .venv/installed
	$(BIN)/logpi train ppo --env CartPole-v1 --until 475 --steps 200000
	$(BIN)/logpi train grpo --task addition --until 0.97 --steps 2500000 --evaluate 1000

test: .venv/installed-dev
	$(BIN)/python -m pytest

# the exams of docs/reliability.md at their full size: a quarter of an hour on two cores
soak: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/limits.py

# site/, to be opened at site/index.html; a warning or a dead link fails it
docs: .venv/installed-dev
	$(BIN)/python docs/site.py
	PYTHONPATH=src $(BIN)/zensical build --strict

clean:
	rm -rf .venv site

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "logpi needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	touch $@

# torch first and by exact version: left to itself pip may pick a far larger build
.venv/torch: .venv/python constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check $(shell grep '^torch' constraints.txt)
	touch $@

.venv/installed: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fast,plot,lab,lm]'
	touch $@

.venv/installed-dev: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@ .venv/installed
