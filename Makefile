# One command from a bare clone: `make demo`, `make test`, ... each sets up .venv first if that is needed.
# Needs only python3 (3.11 or newer) with its venv module. Another one: make PYTHON=python3.12 setup

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PYTEST_ARGS ?=
BESIDE ?= auto
BENCHES ?= observe

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Images of Python often say so; then each of the hundreds of processes that the tests start compiles its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench docs-check lock-check clean

help:
	@echo "make setup       the environment in .venv: locked packages, then tipguard itself"
	@echo "make demo        a trigger map and a memristor on emulated instruments; under two minutes"
	@echo "make test        all tests but the long rounds; PYTEST_ARGS='-k ring' passes options on"
	@echo "make lint        ruff, mypy, import contracts"
	@echo "make bench       what this machine takes per sample; exit 1 when a target is missed"
	@echo "make docs-check  links, decision records, and the README's first sweep as written"
	@echo "make lock-check  requirements.lock: form, completeness, wheels for x86-64 and aarch64"
	@echo "make clean       remove .venv and everything else that is made, not written"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or newer, or name it: make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); this needs Python 3.11 or newer. Name one: make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) has no venv module; on Debian, Ubuntu and Raspberry Pi OS: sudo apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing the packages of requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --quiet --no-deps --only-binary=:all: --requirement requirements.lock || { echo "make: the locked packages could not be installed. No network? Or a machine without wheels: 64-bit Linux on x86-64 or aarch64 is needed" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "ready: . $(BIN)/activate"

demo: $(STAMP)
	$(BIN)/tipguard demo

# What runs in memory is spread over the cores; what starts real programs and waits for them runs a few at a time; what
# measures times runs alone. Exit code 5 of a part is "none selected", which PYTEST_ARGS='-k ...' may well mean; of all
# three it is a mistake.
test: $(STAMP)
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "not processes and not realtime" $(PYTEST_ARGS); spread=$$?; \
	$(BIN)/python -m pytest -n $(BESIDE) --dist worksteal -m "processes and not realtime" $(PYTEST_ARGS); beside=$$?; \
	$(BIN)/python -m pytest -m realtime $(PYTEST_ARGS); alone=$$?; \
	case "$$spread$$beside$$alone" in 555|*[!05]*) echo "make: tests failed (exit $$spread spread, $$beside beside, $$alone alone)" >&2; exit 1;; esac

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find edge firmware_proto hil deploy tests -name '*.py' -exec wc -l {} + | awk '$$2 != "total" && $$1 > 600 {print $$2 ": " $$1 " lines; a module over 600 is a room to divide"; bad = 1} END {exit bad}'

bench: $(STAMP)
	for name in $(BENCHES); do $(BIN)/tipguard bench $$name || exit 1; done

docs-check: $(STAMP)
	$(BIN)/python -m pytest tests/test_docs.py tests/test_readme.py

lock-check: $(STAMP)
	$(BIN)/python -m deploy.check_lock --wheels

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
