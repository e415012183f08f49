# `make serve` and `make test` are all that a new machine needs: Python 3.11 or later with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test services lint types light bench torture torture-cluster soak fuzz audit manifests web webcheck lock clean

serve: $(VENV)/installed
	$(BIN)/kixo serve --demo

# Most tests wait, for a server or a browser, so twice as many as there are cores run at a time; all of a file in one process.
TESTS_AT_ONCE ?= $(shell expr 2 \* `getconf _NPROCESSORS_ONLN`)
test: $(VENV)/developing
	$(BIN)/python -m pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile $(ARGUMENTS)

# What tests on real Kafka, S3, PostgreSQL and Redis need; without it they are skipped with a sentence, with CI=true they fail.
services: $(VENV)/developing
	scripts/services install

lint: $(VENV)/developing
	$(BIN)/ruff check src tests scripts torture fuzz services
	$(BIN)/ruff format --check src tests scripts torture fuzz services

types: $(VENV)/developing
	$(BIN)/mypy

# The base package by itself: it installs without the server, and says so when the server is asked for.
light:
	rm -rf $(VENV)-light
	$(PYTHON) -m venv $(VENV)-light
	$(VENV)-light/bin/pip install --quiet --disable-pip-version-check .
	scripts/check_light $(VENV)-light/bin

bench: $(VENV)/installed
	$(BIN)/kixo bench

# Attacks on servers of its own, some minutes of them; `make torture ARGUMENTS=--list` shows which.
torture: $(VENV)/developing
	$(BIN)/python -m torture $(ARGUMENTS)

# The same on clusters of Kafka, S3, PostgreSQL and Redis, which `make services` installs; half an hour.
torture-cluster: $(VENV)/developing
	$(BIN)/python -m torture $(addprefix --attack ,$(shell $(BIN)/python -m torture --list | grep -o '^cluster-[a-z]*')) $(ARGUMENTS)

# An hour at half load, and what grew: `make soak ARGUMENTS="--minutes 1 --rate 20000"` is a try.
soak: $(VENV)/developing
	$(BIN)/python -m torture.soak $(ARGUMENTS)

# Inputs that reach new code, for so long; what they reached is kept in .fuzz for the next run.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/developing
	mkdir -p .fuzz
	$(BIN)/python -m fuzz -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/ .fuzz

# Known vulnerabilities of what is installed; says so where nobody could be asked, and with ARGUMENTS=--strict fails then.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/python scripts/audit_dependencies.py $(VENV)-audit/bin $(ARGUMENTS)

# Dockerfile, Compose file and Kubernetes manifests, held to the schemas of those who read them; needs Node.js and Go.
manifests:
	$(PYTHON) -m venv $(VENV)-manifests
	scripts/check_manifests $(VENV)-manifests/bin

# Builds the browser SDK and what the console's pages load into the server's package; needs Node.js 18 or later. The
# result is committed.
WEB := sdk/web web
web: $(WEB:=/node_modules/installed)
	for folder in $(WEB); do (cd $$folder && npm run --silent build) || exit 1; done

# Types, lint, and whether what is committed is what the sources give.
webcheck: $(WEB:=/node_modules/installed)
	for folder in $(WEB); do (cd $$folder && npm run --silent check) || exit 1; done

%/node_modules/installed: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	touch $@

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

# What serving takes; tests and checks take more.
$(VENV)/installed: requirements.txt pyproject.toml
	@echo "Installing packages into $(VENV), which takes about a minute."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/developing: $(VENV)/installed requirements-dev.txt
	$(INSTALL) --require-hashes -r requirements-dev.txt
	touch $@

# Writes all files of requirements anew: every version with its hashes, for every platform, and no host.
LOCK := $(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header pyproject.toml requirements-build.in --extra server
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet uv
	$(LOCK) -o requirements.txt
	$(LOCK) --extra distributed -c requirements.txt -o requirements-distributed.txt
	$(LOCK) --extra distributed --extra dev -c requirements-distributed.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) $(VENV)-light $(VENV)-audit $(VENV)-manifests .fuzz build dist $(WEB:=/node_modules) $(WEB:=/dist)
