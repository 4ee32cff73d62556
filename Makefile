# Two commands matter: make demo, make test. Each sets up what it needs; the second time that takes a moment.

SHELL := /bin/sh
# The system's own Python where it is new enough, so that its packages and ours agree; else the first on PATH.
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do \
	"$$p" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
STAMP := .venv/.installed
# Whoever only reads cases needs neither root nor a package of the system's beside Python.
READER := .venv/.reader

.PHONY: demo lab test bench soak check setup system image interactive clean help

help:
	@sed -n 's/^# \(.*\)/\1/p; s/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | head -20

demo: setup ## play an intrusion on a real guest, and rewind it
	$(BIN)/python -m workbench.demo

lab: $(READER) ## JupyterLab with the quickstart notebook open
	@.ci/lab

test: setup interactive check ## every check, every test, on real guests
	@.ci/test

bench: setup ## measure captures, rewinds and the store
	$(BIN)/python -m workbench.bench

soak: setup ## record two guests for ten minutes by the service, and see what holds
	$(BIN)/python -m workbench.bench.soak

check: $(STAMP) ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(STAMP) image ## system packages, .venv, demo image

system:
	@.ci/system-packages

image: $(STAMP)
	@$(BIN)/python -m workbench.demo.image

interactive: $(STAMP) ## what interactive reports are made of, by npm
	@$(BIN)/python -m workbench.evidence.interactive

define install
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found (Debian: python3-venv); set PYTHON=..." >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'
endef

$(READER): pyproject.toml constraints.txt
	$(call install,.)
	@touch $(READER)

$(STAMP): pyproject.toml constraints.txt | system
	$(call install,.[dev])
	@touch $(READER) $(STAMP)

clean: ## remove the virtual environment and what tools left
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
