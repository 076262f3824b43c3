# `make demo` and `make test` are all that a new machine needs. `make` alone lists the rest.

.DEFAULT_GOAL := help
.PHONY: help setup environments demo local stop test quick lint fuzz drill bench package schemas cost scale picture clean

DEV := .venv/dev/bin
SAM := .venv/sam/bin/sam
ENVIRONMENTS := .venv/dev/.ready .venv/sam/.ready .venv/emulator/.ready
TEMPLATES := template.yaml examples/receiver/template.yaml

export SAM_CLI_TELEMETRY := 0

# $(call step,description,command) runs a command quietly and prints one line with its duration; its output is shown only if it fails.
define step
	@log=$$(mktemp) started=$$(date +%s); \
	if ( $(2) ) >$$log 2>&1; then printf '  %-38s %3d s\n' '$(1)' $$(($$(date +%s) - started)); rm -f $$log; \
	else cat $$log >&2; rm -f $$log; echo '$(1): failed, see above' >&2; exit 1; fi
endef

# $(call option,--name,VARIABLE) is `--name value` if the variable was given to make.
option = $(if $($(2)),$(1) $($(2)))

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: environments .venv/checkov/.ready node_modules/.ready  ## Install everything (about a minute, once)

demo: environments  ## Deploy to an AWS emulator on this machine and show events of every kind
	@$(DEV)/python -m tools.local.demo

local: environments  ## Deploy to the emulator and leave it running
	@$(DEV)/python -m tools.local up

stop:  ## End what `make local` started
	@if [ -x $(DEV)/python ]; then $(DEV)/python -m tools.local down; fi

test: lint  ## Lint, then run all other tests
	@$(DEV)/pytest -n 2 --dist loadgroup --ignore=tests/docs

quick: environments  ## Run the tests that take seconds: rules, functions, command line, documents
	@$(DEV)/pytest -n 2 -m 'not slow' tests/rules tests/functions tests/workflows tests/client tests/command tests/docs

lint: setup  ## Check Python and its types, the templates, the state machines, and the documents
	@$(DEV)/ruff check
	@$(DEV)/ruff format --check
	@$(DEV)/mypy
	@for template in $(TEMPLATES); do AWS_DEFAULT_REGION=eu-central-1 $(SAM) validate --lint -t $$template || exit; done
	@.venv/checkov/bin/checkov --config-file .checkov.yaml $(TEMPLATES:%=-f %)
	@$(DEV)/pytest -q tests/workflows/test_definitions.py # The definitions as deployed, linted in every partition.
	@$(DEV)/pytest -q tests/docs

fuzz: environments  ## Try 100,000 random messages and 10,000 histories (about half an hour)
	@PUNCTUAL_FUZZ_EXAMPLES=100000 $(DEV)/pytest tests/fuzz tests/functions/test_histories.py

drill: environments  ## Inject faults into the stack on the emulator, upgrade it, and account for every event
	@$(DEV)/python -m tools.drills $(call option,--commit,COMMIT)

bench: environments  ## Measure lateness and the Sweeper's rate on the emulator
	@$(DEV)/python -m tools.bench lateness
	@$(DEV)/python -m tools.bench sweep

package: environments  ## Write what CloudFormation alone can deploy: make package ARCHITECTURE=x86_64
	@mkdir -p build
	@PATH="$(CURDIR)/.venv/sam/bin:$$PATH" $(SAM) build --build-dir build/sam \
		$(if $(ARCHITECTURE),--parameter-overrides Architecture=$(ARCHITECTURE)) >build/sam.log 2>&1 || { cat build/sam.log >&2; exit 1; }
	@$(DEV)/python -m tools.package build/sam build $(ARCHITECTURE)

schemas: environments  ## Write schemas/ anew, from the rules of Ingest
	@for name in event cancel failure-report asyncapi; do $(DEV)/punctual schema $$name >schemas/$$name.json || exit; done

cost: environments  ## Estimate the cost of a month: make cost EVENTS=1000000 INTERVAL=10 LOGS=ERROR BATCHING=5
	@$(DEV)/python -m tools.cost $(call option,--events,EVENTS) $(call option,--interval,INTERVAL) \
		$(call option,--logs,LOGS) $(call option,--batching,BATCHING) $(call option,--payload-bytes,PAYLOAD_BYTES)

scale: environments  ## Estimate how late bursts and busy months are under the quotas of AWS
	@$(DEV)/python -m tools.bursts

picture: setup  ## Make the pictures in the README again: what `make demo` prints, and the page
	@$(DEV)/python -m tools.local.demo --svg docs/pictures/demo.svg
	@PUNCTUAL_WEB_PICTURE=docs/pictures/web.png $(DEV)/pytest -q tests/stack/test_web_browser.py

clean: stop  ## Remove everything that make has made
	@rm -rf .venv .aws-sam .local node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# A make of their own, because the installations are faster side by side.
environments: .venv/python
	@$(MAKE) --no-print-directory --quiet -j3 $(ENVIRONMENTS)

# The path of the first Python 3.13 that runs: a pyenv shim is on the PATH even where its version is not active.
.venv/python:
	@mkdir -p .venv
	@for python in "$(PYTHON)" python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13*/bin/python python3; do \
		"$$python" -c 'import ensurepip, sys; print(sys.executable); sys.exit(sys.version_info[:2] != (3, 13))' >$@ 2>/dev/null && exit; \
	done; rm $@; \
	echo 'Punctual needs Python 3.13 with venv: install it (pyenv install 3.13), or name it (make PYTHON=/path/to/python3.13)' >&2; exit 1

.venv/%/.ready: requirements/%.txt
	$(call step,Python environment: $*,"$$(cat .venv/python)" -m venv --clear .venv/$* \
		&& .venv/$*/bin/pip install --disable-pip-version-check -r $< $(if $(filter dev,$*),&& .venv/dev/bin/pip install --no-deps -e .) \
		&& .venv/$*/bin/pip check && touch $@)

node_modules/.ready: package-lock.json
	@command -v npm >/dev/null || { echo 'The linters of the state machines and of schemas/ need Node.js: install it (https://nodejs.org), then run make again' >&2; exit 1; }
	$(call step,Node modules,npm ci --no-audit --no-fund --ignore-scripts && touch $@)
