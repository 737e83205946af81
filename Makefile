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
# Runs steps: commands that pipelines/src/dispatchd_pipelines/steps.py lists once, for this machine and for Dagger.
NATIVE := PYTHONPATH=pipelines/src FUZZ_MESSAGES=$(MESSAGES) "$(PYTHON)" -m dispatchd_pipelines.native ci
# The long ones come first, because they run two at a time.
CHECKS := types infra-types k8s-validate pipelines-test scanners-test \
	pipelines-types render-check fmt-check lint layers proto-lint proto-breaking proto-fresh release-unedited
SINGLES := $(if $(filter all,$(FAULTS)),singles-all,singles)
# Singles come after the other tests and alone, because they measure how soon an installation recovers.
SUITES := test infra-test $(SINGLES) hostile
SCANS := scan-secrets scan-code scan-dockerfile scan-workflows scan-dependencies scan-go \
	scan-licences-app scan-licences-infra scan-licences-pipelines scan-licences-scanners sbom
ENVIRONMENTS := dev staging prod-region-a prod-region-b
environment = $(or $(filter $(ENVIRONMENTS),$(ENV)),$(error there is no environment ENV=$(ENV): name one of $(ENVIRONMENTS)))
unexport VIRTUAL_ENV UV_PYTHON UV_PROJECT_ENVIRONMENT PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup dev demo bench faults fuzz test ci fmt fmt-check lint types layers proto proto-check proto-breaking \
	unit singles hostile infra-setup pipelines-setup pipelines-lock scanners-setup scanners-lock scan infra-types \
	infra-unit pipelines-test render render-check k8s-render k8s-validate argocd-render gitops-up \
	gitops-update-dev infra-tools infra-test images image-check compose-config compose-up compose-down \
	kind-up kind-down build release clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

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

test: setup infra-setup pipelines-setup scanners-setup ## Check formatting, lint, types, layers, the contract and gitops/, then run all tests
	@$(NATIVE) $(CHECKS) $(SUITES)

ci: setup infra-setup pipelines-setup scanners-setup ## Run the steps STEPS=…, or all of them; a name that does not exist is answered with those that do
	@$(NATIVE) $(STEPS)

fmt: setup ## Format the code and sort the imports
	$(BIN)/ruff check --quiet --select I --fix .
	$(BIN)/ruff format .

fmt-check: setup ## Check that `make fmt` would change nothing
	@$(NATIVE) fmt-check

lint: setup ## Look for mistakes that need no running
	@$(NATIVE) lint

types: setup ## Check the types
	@$(NATIVE) types

layers: setup ## Check which layer imports which
	@$(NATIVE) layers

proto: setup ## Generate the stubs of the contract anew
	$(BIN)/python proto/generate.py

proto-check: setup ## Check that the contract is well-formed, that old clients can still use it, and that its stubs are fresh
	@$(NATIVE) proto-lint proto-breaking proto-fresh

proto-breaking: setup ## Check that old clients can still use the contract
	@$(NATIVE) proto-breaking

unit: setup ## Run the tests of the application alone
	@$(NATIVE) test

singles: setup ## Make twelve single faults on one installation under load; all of them with FAULTS=all
	@$(NATIVE) $(SINGLES)

hostile: setup ## Send 5,000 hostile messages, or MESSAGES=…, which are always the same
	@$(NATIVE) hostile

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

scanners-setup: pipelines/scanners/.venv/ready ## Make the environment of the scanners, with Go for two of them; quick when nothing changed

pipelines/scanners/.venv/ready: pipelines/scanners/requirements.lock $(UV)
	@test -x $(@D)/bin/python || $(UV) venv --quiet --clear --python "$(PYTHON)" $(@D)
	@$(UV) pip sync --quiet --python $(@D) --require-hashes $<
	@touch $@

scanners-lock: $(UV) ## Lock what the environment of the scanners has; as it was where nothing forces a change
	cd pipelines/scanners && ../../$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make scanners-lock' --output-file requirements.lock requirements.in

scan: setup infra-setup pipelines-setup scanners-setup ## Look for secrets, dangerous code, known vulnerabilities and licences; list what is shipped
	@$(NATIVE) $(SCANS)

infra-types: infra-setup ## Check the types of infra/
	@$(NATIVE) infra-types

infra-unit: infra-setup ## Run the tests of infra/ that need no tools of others
	@$(NATIVE) infra-test k8s-validate

pipelines-test: pipelines-setup setup infra-setup scanners-setup ## Check the types of pipelines/ and run its tests
	@$(NATIVE) pipelines-types pipelines-test scanners-test

render: infra-setup ## Write gitops/ from infra/
	infra/.venv/bin/infra render

render-check: infra-setup ## Check that gitops/ is what infra/ makes
	@$(NATIVE) render-check

k8s-render: infra-setup ## Print what Kubernetes is given in the environment ENV=…, as kubectl builds it
	@$(NATIVE) k8s-render-$(environment)

k8s-validate: infra-setup ## Check every manifest against the schema of its kind and the rules of this repository
	@$(NATIVE) k8s-validate

argocd-render: infra-setup ## Print what a cluster for ENV=… has before Argo CD takes over, its root Application included
	@$(NATIVE) argocd-render-$(environment)

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
	@$(NATIVE) $(if $(TIER),$(TIER)-tier,cluster-tier gitops-tier)

images: setup ## Build the three images under the names that compose-up and kind-up look for; [IMAGE_BASE=…]
	@PYTHONPATH=tests $(BIN)/python -m images.build

image-check: setup ## Build the three images and run a job through containers of them; needs a Docker daemon; [IMAGE_BASE=…]
	@$(NATIVE) image-check

compose-config: setup ## Print what compose.yaml comes to, as Docker Compose reads it; needs no daemon
	@docker-compose config

compose-up: images ## Build the images and run everything in containers until compose-down; [IMAGE_BASE=…]
	docker-compose up --detach --wait

compose-down: setup ## Stop those containers and keep the data, which `docker-compose down --volumes` would delete
	@docker version >/dev/null 2>&1 || { echo 'compose-down: not run: no Docker daemon answers; see what `docker version` says' >&2; exit 1; }
	docker-compose down

kind-up: setup infra-setup ## Run overlays/dev and the local images in a kind cluster on this machine, and one example job
	@infra/.venv/bin/python infra/kind/cluster_up.py

kind-down: ## Delete that cluster
	@command -v kind >/dev/null || { echo 'kind-down: not run: there is no `kind` on the PATH' >&2; exit 1; }
	kind delete cluster --name dispatchd

build: setup ## Build the wheel and the source distribution into dist/, and use the wheel where nothing else is
	@$(NATIVE) build

release: setup ## Commit a release, VERSION=x.y.z, from a clean tree whose checks pass; docs/release.md says what is next
	@test -n "$(VERSION)" || { echo "Name the version: make release VERSION=0.1.0" >&2; exit 2; }
	PYTHONPATH=pipelines/src $(BIN)/python -m dispatchd_pipelines.releasing prepare "$(VERSION)"

clean: ## Remove what these verbs made, but not the data of `make dev`
	rm -rf .venv .venv-tools infra/.venv pipelines/.venv pipelines/scanners/.venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(UV):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11")'
	@rm -rf .venv-tools
	@"$(PYTHON)" -m venv $(@D:/bin=)
	@echo '*' > .venv-tools/.gitignore
	@$(@D)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
