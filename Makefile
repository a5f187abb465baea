# Everything runs in .venv, made from requirements.lock. `make demo` and `make test` need nothing set up before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# pytest workers: one a core, four at the most
JOBS ?= $(shell n=$$(nproc); [ $$n -gt 4 ] && n=4; echo $$n)

.PHONY: setup softhsm chromium demo test properties simulation controls lint clean lock

setup: $(STAMP) softhsm

$(STAMP): requirements.lock pyproject.toml
	@echo "setting up $(VENV) from requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# No Python package ships a PKCS#11 token, so the embedded default is Debian's SoftHSM 2.
softhsm:
	@if ! ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so >/dev/null 2>&1; then \
	  echo "SoftHSM 2 is missing: installing it with apt ($(SUDO) apt-get install softhsm2)"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq softhsm2 >/dev/null; \
	fi

# The browser tests drive the card form in Debian's Chromium.
chromium:
	@if ! command -v chromium >/dev/null 2>&1; then \
	  echo "Chromium is missing: installing it with apt ($(SUDO) apt-get install chromium)"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	fi

demo: setup
	@$(BIN)/cardswitch demo $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# End-to-end tests start hundreds of processes: compiled first, or each would compile everything where it must not write.
test: setup chromium lint
	@$(BIN)/python -m compileall -q console gateway hsm ledger messages simulators specs switch tests web
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

# Property tests with new examples in each run; `make test` takes the same ones every time. TIMES=5 for more runs.
TIMES ?= 1
properties: setup
	for n in $$(seq $(TIMES)); do \
	  $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m hypothesis --hypothesis-profile fresh $(ARGS) || exit; \
	done

# 1,000 random fault scenarios in memory; SCENARIOS=5000 for more. `make test` plays 100.
SCENARIOS ?= 1000
simulation: setup
	CARDSWITCH_SCENARIOS=$(SCENARIOS) $(BIN)/python -m pytest -q -n $(JOBS) tests/simulation/test_scenarios.py $(ARGS)

# Takes each control of SECURITY.md out of a copy of the code and runs the tests that must notice.
controls: setup
	$(BIN)/python -m tests.controls $(ARGS)

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock

clean:
	rm -rf $(VENV) .cardswitch
