# Set-up, demo and tests. Everything lives in .venv at the repository's root and is reused.

# The first interpreter that runs and is new enough.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Native code is linked by the system's C compiler; where there is none, by the one in the ziglang wheel.
COMMA := ,
EXTRAS := test$(if $(shell command -v cc || command -v gcc || command -v clang),,$(COMMA)zig)

.PHONY: demo test lint types docs clean

demo: $(STAMP)
	$(BIN)/python -m qcompiler.demo --output demo-output

test: $(STAMP) lint types
	$(BIN)/python -m pytest -n auto

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/generate.py

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo-output
