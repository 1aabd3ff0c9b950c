# The commands that people and CI use. Only python3 (3.11 or newer) and make are needed.
#
#   make quickstart   install everything pinned, then show real determinations and serve
#   make install      only install: .venv/bin/aslgate
#   make test         run the tests
#   make check        every check there is: format, lint, types, imports, tests
#   make proofs       prove every shipped policy version anew, and keep that (20 minutes of a core)
#   make coverage     see that the tests of policy, assessment and determination reach every branch
#   make mutants      see which small changes to those three no test notices (SHARE=0.1 of them)
#   make audit        look the locked packages up among known vulnerabilities (needs the internet)
#   make laws         try the laws on EXAMPLES=3000 examples each, made up anew (10 minutes)
#   make test-real    install the real programs that ours speaks with, and test with them
#   make torture      run the tests of faults at length: TIMES=10 as many rounds, every call and byte
#
# PYTHON=python3.13 picks another Python, VENV=folder another folder for it,
# ARGS="-k name" goes to pytest. Plain make of 2006 (3.81, as on macOS) is enough.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
SHARE  ?= 0.1
SEED   ?= 1
TIMES  ?= 10
EXAMPLES ?= 3000
ROOMS  := policy assessment determination
BIN    := $(VENV)/bin
REAL   := .venv-real
# pip takes whatever index the machine is set up with, and only what the hashes name.
PIP    := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

.PHONY: help install quickstart test test-real check lint audit format lock openapi proofs coverage mutants laws torture image clean
.NOTPARALLEL:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

install: $(VENV)/.installed
	@echo "Ready: $(BIN)/aslgate"

quickstart: $(VENV)/.installed
	@$(BIN)/aslgate quickstart

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest $(ARGS)

# The last checks (one migration head and no drift, the decision cases, the laws, the OpenAPI
# document) are tests, so that whoever runs the tests runs them.
check: lint test

lint: $(VENV)/.installed-dev
	@echo "ruff: format";   $(BIN)/ruff format --check --quiet .
	@echo "ruff: lint";     $(BIN)/ruff check --quiet .
	@echo "mypy: types";    $(BIN)/mypy $(wildcard app tests benchmarks docs/*.py)
	@echo "import-linter";  $(BIN)/lint-imports --no-logo
	@echo "pip: what is installed fits together"; $(PIP) check
	@echo "hadolint";       $(BIN)/hadolint Dockerfile

# Fails where it could not ask for a package: without `--strict` it would then find nothing wrong.
audit: $(VENV)/.installed-dev
	@for lock in requirements*.lock; do \
		$(BIN)/pip-audit --strict --require-hashes --disable-pip -r $$lock || exit 1; done

format: $(VENV)/.installed-dev
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

openapi: $(VENV)/.installed
	@$(BIN)/aslgate openapi

# One process, whatever the machine: each version's decision cases are held against every small
# change to it, which takes most of a minute.
proofs: $(VENV)/.installed
	@nice -n 19 $(BIN)/aslgate policy prove --write policies

# Only tests that need no database, with few examples each and without those that take long.
coverage: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -q -p tests.quick $(ROOMS:%=--cov=app.%) --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=100 $(ROOMS:%=tests/%) tests/decisions tests/laws/test_gate.py

# One process. A tenth of them takes the better part of an hour; SEED=2 is another tenth.
mutants: $(VENV)/.installed-dev
	@nice -n 19 $(BIN)/python -m tests.mutants --share $(SHARE) --seed $(SEED)

laws: $(VENV)/.installed-dev
	@ASLGATE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --dist load -o timeout=3600 $(ARGS) tests/laws

# Everything that is killed, cut, filled up or frozen, one after another, and what became of it. As root,
# with strace and libfaketime, nothing is skipped.
torture: $(VENV)/.installed-dev
	@ASLGATE_TORTURE=$(TIMES) $(BIN)/python -m pytest -n 0 $(ARGS) tests/faults tests/storage/test_cuts.py tests/hostile

# In a venv of their own, for what they need does not fit with what we do.
test-real: $(VENV)/.installed-dev $(REAL)/.installed
	@ASLGATE_REAL_VENV=$(REAL) $(BIN)/python -m pytest -n 0 $(ARGS) tests/real

$(REAL)/.installed: requirements-real.lock
	@$(PYTHON) -m venv --clear $(REAL)
	@echo "Installing the real programs into $(REAL) (about a minute) ..."
	@$(REAL)/bin/python -m pip -qq --disable-pip-version-check --no-input install \
		--require-hashes --only-binary :all: -r requirements-real.lock
	@touch $@

image:
	docker build --tag aslgate .

clean:
	rm -rf $(VENV) build dist mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The stamp is written last: an installation that stopped half-way is not taken for a finished
# one, and the next make goes on with it. A folder without a working pip (an interrupted venv, a
# Python that has gone since) is made anew.
define install
	@$(PYTHON) -c 'import sys; sys.exit("aslgate needs Python 3.11 or newer, and $(PYTHON) is %d.%d: choose one with make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
	@echo "Installing what $(1) pins into $(VENV) (less than a minute) ..."
	@$(PIP) install --require-hashes --only-binary :all: -r $(1)
	@$(PIP) install --no-deps --no-build-isolation -e .
endef

$(VENV)/.installed: requirements.lock pyproject.toml
	$(call install,requirements.lock)
	@touch $@

# Everything that requirements.lock pins is in requirements-dev.lock too, at the same versions.
$(VENV)/.installed-dev: requirements-dev.lock requirements.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.installed $@

# Needs uv. A release must have been out for a week before it is taken. The dependency groups come
# in on standard input, for uv leaves them alone in a project that it does not manage.
UV_COMPILE = uv pip compile --quiet --universal --generate-hashes --no-strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --exclude-newer "7 days" pyproject.toml -
GROUPS_OF = $(PYTHON) -c 'import sys, tomllib; \
	groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]; \
	print(*(line for name in sys.argv[1:] for line in groups[name]), sep="\n")'

lock:
	@$(GROUPS_OF) build | $(UV_COMPILE) --extra embedded -o requirements.lock
	@$(GROUPS_OF) build | $(UV_COMPILE) -c requirements.lock -o requirements-server.lock
	@$(GROUPS_OF) build dev | $(UV_COMPILE) --extra embedded -c requirements.lock -o requirements-dev.lock
	@$(GROUPS_OF) real | $(UV_COMPILE:pyproject.toml=) --python-version 3.11 --only-binary :all: -o requirements-real.lock
	@! grep -n '://' requirements*.lock
