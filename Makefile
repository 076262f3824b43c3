# Everything a newcomer needs: `make demo`, `make test`. `make` by itself lists the rest.

.DEFAULT_GOAL := help
.PHONY: help setup environments demo local stop test quick lint fuzz drill bench cost scale clean

DEV := .venv/dev/bin
SAM := .venv/sam/bin/sam
ENVIRONMENTS := .venv/dev/.ready .venv/sam/.ready .venv/emulator/.ready
DEFINITIONS := $(wildcard statemachines/*.asl.json)
TEMPLATES := template.yaml examples/receiver/template.yaml

export SAM_CLI_TELEMETRY := 0

# $(call step,what it does,command) runs a command behind one line that says how long it took; its output shows only if it fails.
define step
	@log=$$(mktemp) started=$$(date +%s); \
	if ( $(2) ) >$$log 2>&1; then printf '  %-38s %3d s\n' '$(1)' $$(($$(date +%s) - started)); rm -f $$log; \
	else cat $$log >&2; rm -f $$log; echo '$(1): failed, see above' >&2; exit 1; fi
endef

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: environments .venv/checkov/.ready node_modules/.ready  ## Install everything (about a minute, once)

demo: environments  ## Show the system at work on this machine
	@$(DEV)/python -m tools.local.demo

local: environments  ## Deploy to this machine and leave it running
	@$(DEV)/python -m tools.local up

stop:  ## End what `make local` started
	@if [ -x $(DEV)/python ]; then $(DEV)/python -m tools.local down; fi

test: lint  ## Lint, then every test
	@$(DEV)/pytest

quick: environments  ## The tests that take seconds: rules and functions
	@$(DEV)/pytest tests/rules tests/functions

lint: setup  ## Python, template and state machines
	@$(DEV)/ruff check
	@$(DEV)/ruff format --check
	@for template in $(TEMPLATES); do AWS_DEFAULT_REGION=eu-central-1 $(SAM) validate --lint -t $$template || exit; done
	@.venv/checkov/bin/checkov --config-file .checkov.yaml $(TEMPLATES:%=-f %)
	@node_modules/.bin/asl-validator $(DEFINITIONS:%=--json-path %)

fuzz: environments  ## 100,000 messages of every kind and 10,000 histories (about half an hour)
	@PUNCTUAL_FUZZ_EXAMPLES=100000 $(DEV)/pytest tests/fuzz tests/functions/test_histories.py

drill: environments  ## Break the local stack in every way we know, and count what came out
	@$(DEV)/python -m tools.drills

bench: environments  ## Lateness, throughput and size, beside what the platform itself takes
	@$(DEV)/python -m tools.bench

cost: environments  ## What a month costs: make cost EVENTS=1000000 INTERVAL=10 LOGS=ALL
	@$(DEV)/python -m tools.estimates.cost --events $(or $(EVENTS),1e6) --interval $(or $(INTERVAL),10) --logs $(or $(LOGS),ALL) \
		--far-share $(or $(FAR_SHARE),1) --fraction-share $(or $(FRACTION_SHARE),0)

scale: environments  ## What bursts and years of events do to the quotas of AWS, simulated
	@$(DEV)/python -m tools.estimates.scale

clean: stop  ## Remove everything that make has made
	@rm -rf .venv .aws-sam .local node_modules .pytest_cache .ruff_cache .hypothesis

# The installs have their own, quiet make, because they gain from running side by side.
environments: .venv/python
	@$(MAKE) --no-print-directory --quiet -j3 $(ENVIRONMENTS)

# The path of the first Python 3.13 that really runs: a pyenv shim is on the PATH even where its version is not active.
.venv/python:
	@mkdir -p .venv
	@for python in "$(PYTHON)" python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13*/bin/python python3; do \
		"$$python" -c 'import ensurepip, sys; print(sys.executable); sys.exit(sys.version_info[:2] != (3, 13))' >$@ 2>/dev/null && exit; \
	done; rm $@; \
	echo 'Punctual needs Python 3.13 with venv: install it (pyenv install 3.13), or say where it is (make PYTHON=/path/to/python3.13)' >&2; exit 1

.venv/%/.ready: requirements/%.txt
	$(call step,Python environment: $*,"$$(cat .venv/python)" -m venv --clear .venv/$* \
		&& .venv/$*/bin/pip install --disable-pip-version-check -r $< && .venv/$*/bin/pip check && touch $@)

node_modules/.ready: package-lock.json
	@command -v npm >/dev/null || { echo 'The linter of the state machines needs Node.js: install it (https://nodejs.org), then run make again' >&2; exit 1; }
	$(call step,Node modules,npm ci --no-audit --no-fund && touch $@)
