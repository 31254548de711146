# motet: every target does its own set-up. PYTHON=python3.13 picks another interpreter.

PYTHON ?= python3
TAG := $(shell $(PYTHON) -c 'import sys, sysconfig; print("%d.%d%s" % (*sys.version_info[:2], "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))' 2>/dev/null)
VENV := .venv-$(TAG)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := $(shell find crates python -name '*.rs' -o -name '*.py' -o -name '*.pyi' 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help demo test test-rust bench wheel check clean prepare print-bin

help:  ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Search the standard library's sources with a program on motet, then on stock asyncio
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r examples/code_search/requirements.txt
	@$(BIN)/python examples/code_search/compare.py semaphore

test: $(VENV)/.developer  ## All tests: Rust, then Python
	@$(MAKE) --no-print-directory test-rust
	@$(BIN)/python -m pytest -q

test-rust:  ## The Rust crates' own tests
	@scripts/check-tools cargo
	@if cargo nextest --version >/dev/null 2>&1; then \
	    cargo nextest run --workspace --exclude motet-py --no-fail-fast && cargo test -q --doc --workspace --exclude motet-py; \
	else cargo test -q --workspace --exclude motet-py; fi
	@cargo test -q -p motet-lanes --features failpoints --test lane_kills

bench: $(STAMP)  ## The side-by-side tables of event loops and of worker pools, into benches/ (about 40 minutes)
	@$(BIN)/python benches/run.py --write
	@$(BIN)/python benches/pools.py --write

wheel: $(VENV)/.tools  ## A wheel for this Python, into dist/
	@$(BIN)/maturin build --release --strip --locked -i $(BIN)/python -o dist
	@ls dist/motet-*.whl

check: $(VENV)/.developer  ## Formatting, lints, types
	@.ci/check $(BIN)

clean:  ## Removes what was built
	rm -rf target build dist .venv-* benches/floor/target

# ---- set-up ----

prepare: $(VENV)/.developer

print-bin:
	@echo $(BIN)

$(VENV)/.tools:
	@scripts/check-tools all "$(PYTHON)"
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-build.txt
	@touch $@

$(STAMP): $(VENV)/.tools $(SOURCES)
	@echo "Building motet for $$($(BIN)/python -V) (the first time takes a minute or two)"
	@VIRTUAL_ENV="$(abspath $(VENV))" $(BIN)/maturin develop --release --locked -q
	@touch $@

$(VENV)/.developer: $(STAMP) requirements-dev.txt tests/ecosystem/requirements.txt examples/code_search/requirements.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt -r examples/code_search/requirements.txt
	@touch $@
