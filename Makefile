# The verbs of this project; `make help` lists them. Needed: Python 3.11 or newer with venv, make, git and PyPI.

PYTHON ?= python3
MINUTES ?= 10
FAULTS ?= 12
MESSAGES ?= 5000
UV_VERSION := 0.13.9
UV := .venv-tools/uv-$(UV_VERSION)/bin/uv
BIN := .venv/bin
# The protoc plugins are found on the PATH; a virtual environment of the caller's is not ours.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV UV_PYTHON UV_PROJECT_ENVIRONMENT PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test bench faults fuzz fmt fmt-check lint types layers proto proto-check unit singles \
	hostile infra-setup infra-types infra-unit infra-tools infra-test pipelines-setup pipelines-lock \
	kind-up kind-down render render-check gitops-up \
	gitops-update-dev build wheel-check clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(UV) ## Make a working environment, with the command in .venv/bin/dispatchd; quick when nothing changed
	@test -x $(BIN)/python || $(UV) venv --quiet --clear --python "$(PYTHON)" .venv
	@$(UV) sync --quiet --locked

dev: setup ## Run everything on this machine: PostgreSQL, Valkey and the three roles
	$(BIN)/dispatchd dev

demo: setup ## Audit the integrity of this Python environment with thousands of jobs, while processes are killed
	$(BIN)/python -m dispatchd.demo

bench: setup ## Measure throughput and latency beside pgbench; writes evidence/performance/
	$(BIN)/python -m perf.bench

faults: setup ## Kill, stop and cut off real processes: all singles, all pairs, then by chance for MINUTES=10; [SEED=…]
	PYTHONPATH=tests $(BIN)/python -m faults.run singles $(if $(SEED),--seed $(SEED))
	PYTHONPATH=tests $(BIN)/python -m faults.run pairs $(if $(SEED),--seed $(SEED))
	PYTHONPATH=tests $(BIN)/python -m faults.run random --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

fuzz: setup ## Send 100,000 hostile messages to real processes, without tokens and with; [SEED=…]
	PYTHONPATH=tests $(BIN)/python -m fuzz.run $(if $(SEED),--seed $(SEED))

test: setup fmt-check lint types infra-types layers proto-check render-check unit infra-unit singles hostile ## Check formatting, lint, types, layers, the contract and gitops/, then run all tests

fmt: setup ## Format the code and sort the imports
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

fmt-check: setup
	$(BIN)/ruff format --check .

lint: setup ## Look for mistakes that need no running
	$(BIN)/ruff check .

types: setup ## Check the types
	MYPYPATH=tests $(BIN)/mypy app/dispatchd tests perf

layers: setup ## Check which layer imports which
	$(BIN)/lint-imports

proto: setup ## Generate the stubs of the contract anew
	$(BIN)/python proto/generate.py

proto-check: setup ## Check that the contract is well-formed, that old clients can still use it, and that its stubs are fresh
	$(BIN)/buf lint proto
	$(BIN)/buf breaking proto --against proto/dispatchd-v1-baseline.binpb
	$(BIN)/pytest -q tests/contract/test_proto.py

# Most tests wait for leases and processes most of the time, so that two at once are done sooner on two cores.
unit: setup
	$(BIN)/pytest -q -n 2 --dist worksteal

# After the other tests and alone, because it measures how soon an installation recovers.
singles: setup ## Make twelve single faults on one installation under load; all of them with FAULTS=all
ifeq ($(FAULTS),all)
	PYTHONPATH=tests $(BIN)/python -m faults.run singles --no-evidence
else
	$(BIN)/pytest -q -m faults tests/faults/test_single_faults.py
endif

hostile: setup ## Send 5,000 hostile messages, or MESSAGES=…, which are always the same
	FUZZ_MESSAGES=$(MESSAGES) $(BIN)/pytest -q -m fuzz tests/fuzz

infra-setup: $(UV) ## Make the environment of infra/, with the command in infra/.venv/bin/infra
	@test -x infra/.venv/bin/python || $(UV) venv --quiet --clear --python "$(PYTHON)" infra/.venv
	@$(UV) sync --quiet --locked --project infra

pipelines-setup: pipelines/.venv/ready ## Make the environment of pipelines/, with Dagger's SDK; quick when nothing changed

pipelines/.venv/ready: pipelines/requirements.lock pipelines/pyproject.toml $(UV)
	@test -x pipelines/.venv/bin/python || $(UV) venv --quiet --clear --python "$(PYTHON)" pipelines/.venv
	@$(UV) pip sync --quiet --python pipelines/.venv --require-hashes pipelines/requirements.lock
	@$(UV) pip install --quiet --python pipelines/.venv --no-deps --editable pipelines
	@touch $@

pipelines-lock: $(UV) ## Lock what the environment of pipelines/ has; as it was where nothing forces a change
	cd pipelines && ../$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev \
		--custom-compile-command 'make pipelines-lock' --output-file requirements.lock pyproject.toml

infra-types: infra-setup ## Check the types of infra/
	cd infra && .venv/bin/mypy src tests && .venv/bin/mypy gitops/__main__.py && .venv/bin/mypy clusters/__main__.py

infra-unit: infra-setup ## Run the tests of infra/ that need no tools of others
	cd infra && .venv/bin/pytest -q -n 2 --dist worksteal

render: infra-setup ## Write gitops/ from infra/
	infra/.venv/bin/infra render

render-check: infra-setup ## Check that gitops/ is what infra/ makes
	infra/.venv/bin/infra render --check

gitops-up: infra-setup ## Let Pulumi write gitops/, as `make render` does without it; needs the command pulumi
	@command -v pulumi >/dev/null || { echo 'gitops-up: not run: there is no `pulumi` on the PATH; `make render` needs none' >&2; exit 1; }
	@export PULUMI_CONFIG_PASSPHRASE=; cd infra/gitops; for stack in base dev staging prod-region-a prod-region-b; do \
		pulumi stack select --create "$$stack" && pulumi up --yes --skip-preview --stack "$$stack" || exit 1; \
	done

gitops-update-dev: infra-setup ## Let dev run the images with the tag IMAGE_TAG=…
	@test -n "$(IMAGE_TAG)" || { echo "Name the tag: make gitops-update-dev IMAGE_TAG=sha-1234567" >&2; exit 2; }
	infra/.venv/bin/infra promote-image --env dev --tag "$(IMAGE_TAG)"

infra-tools: $(UV) ## Build Pulumi, its Kubernetes provider and an API server for infra-test, unless they are there; 15 minutes when new
	@PYTHONPATH=infra/tools $(UV:uv=python) -m infra_tools --tier $(or $(TIER),cluster)

infra-test: infra-setup infra-tools ## Test infra/ with the real Pulumi and a real API server; only one of them with TIER=gitops|cluster
	cd infra && .venv/bin/pytest -q -n 2 --dist loadgroup -m "$(if $(TIER),$(TIER)_tier,gitops_tier or cluster_tier)"

kind-up: setup infra-setup ## Run overlays/dev and the local images in a kind cluster on this machine, and one example job
	@infra/.venv/bin/python infra/kind/cluster_up.py

kind-down: ## Delete that cluster
	@command -v kind >/dev/null || { echo 'kind-down: not run: there is no `kind` on the PATH' >&2; exit 1; }
	kind delete cluster --name dispatchd

build: setup ## Build the wheel into dist/
	rm -rf dist
	$(UV) build --quiet --wheel --out-dir dist

wheel-check: build ## Install the wheel alone into an environment of its own and use its command there
	rm -rf build/wheel
	"$(PYTHON)" -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/dispatchd-*.whl
	cd build && wheel/bin/dispatchd --version
	cd build && wheel/bin/python -c "from dispatchd import AsyncClient, Client, Worker; from dispatchd.adapters.postgres.migrate import read_migrations; assert read_migrations()"

clean: ## Remove what these verbs made, but not the data of `make dev`
	rm -rf .venv .venv-tools infra/.venv pipelines/.venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(UV):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11")'
	@rm -rf .venv-tools
	@"$(PYTHON)" -m venv $(@D:/bin=)
	@echo '*' > .venv-tools/.gitignore
	@$(@D)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
