# Everything a newcomer needs: `make up`, `make demo`, `make test`. Variables: IMAGES= NO_STARTER= CHECKPOINT= PORT= LS_PORT= DATA=
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= 3.11
DATA ?= ./data
PORT ?=
LS_PORT ?=
IMAGES ?=
NO_STARTER ?=
CHECKPOINT ?=
SEED ?= 1
SECRETS ?= ./secrets

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# An installed uv serves; otherwise one goes into .tools, touching nothing outside this folder.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)

# of pyproject.toml; without `plots`, which nobody needs who uses the project
LOCKED_EXTRAS := $(addprefix --extra ,encoders label-studio-ml meteor onnx postgresql s3 docs dev)

.PHONY: help setup up demo check test audit bench-smoke image-steps docs pictures secrets lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

.tools/bin/uv:
	@echo "Fetching uv into .tools"
	@if python3 -c "import ensurepip" 2>/dev/null; then \
		python3 -m venv --clear .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv; \
	elif python3 -m pip --version >/dev/null 2>&1; then \
		python3 -m pip install --quiet --disable-pip-version-check --upgrade --target .tools/lib uv && \
		mkdir -p .tools/bin && ln -sf ../lib/bin/uv .tools/bin/uv; \
	else \
		echo "Python's venv is missing: install python3-venv (apt install python3-venv), or uv itself." >&2; exit 1; \
	fi

$(READY): requirements.lock pyproject.toml | $(UV)
	@echo "Making the environment in $(VENV) (about 6 GB, most of it PyTorch)"
	@test -x $(BIN)/python || $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip sync --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY)  ## make the environment in .venv

up: $(READY)  ## Label Studio, the ML backend, its worker and Redis; IMAGES= NO_STARTER= CHECKPOINT= PORT= LS_PORT= DATA=
	@$(BIN)/captioner up --data-dir "$(DATA)" \
		$(if $(IMAGES),--images "$(IMAGES)") $(if $(NO_STARTER),--no-starter) $(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)") \
		$(if $(PORT),--port $(PORT)) $(if $(LS_PORT),--label-studio-port $(LS_PORT))

demo: $(READY)  ## the whole loop with a simulated annotator in a real Label Studio; SEED=
	@rm -rf "$(DATA)/demo-$(SEED)"
	@$(BIN)/python -m demo --seed $(SEED) --data-dir "$(DATA)/demo-$(SEED)"

define LINT
$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
endef
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(READY)  ## linters, types and the unit tests but the slow ones, in two minutes; ARGS=
	@$(LINT)
	@$(PYTEST) -m "not slow and not smoke" tests/unit tests/test_*.py $(ARGS)

test: $(READY)  ## linters, types and every test; ARGS=
	@$(LINT)
	@$(PYTEST) $(ARGS)

audit: $(READY)  ## known vulnerabilities of what requirements.lock pins, where their list can be had
	@$(BIN)/python .ci/audit.py

bench-smoke: $(READY)  ## every benchmark once in small, without figures to quote; ARGS=
	@$(PYTEST) -m smoke tests/smoke $(ARGS)

image-steps: $(READY)  ## the Dockerfile's install steps in a clean folder, and a caption by what they installed (6 GB)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -m tests.dockerfile "$$folder"

docs: $(READY)  ## the site of docs/, into build/site; a dead link or anchor fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(READY)  ## pictures in docs/, drawn anew; that of what corrections teach is drawn by benchmarks.adaptation_plot
	@$(BIN)/python docs/making/loop.py
	@PYTHONPATH=. $(BIN)/python docs/making/attention.py
	@PYTHONPATH=. $(BIN)/python docs/making/status_page.py
	@PYTHONPATH=. $(BIN)/python docs/making/configs.py

# Containers run as users of their own, so each may read the files; nobody else gets into the folder.
secrets:  ## passwords for docker-compose.yml, into secrets/; one that is there stays; SECRETS=
	@mkdir -p "$(SECRETS)" && chmod 700 "$(SECRETS)" && cd "$(SECRETS)" && \
	for name in label_studio_password label_studio_token postgres_password redis_password basic_auth_pass; do \
		test -s $$name || od -An -v -tx1 -N20 /dev/urandom | tr -d ' \n' > $$name || exit 1; \
	done && \
	printf 'postgresql+psycopg://captioner:%s@postgres:5432/captioner' "$$(cat postgres_password)" > database_url && \
	printf 'redis://:%s@redis:6379/0' "$$(cat redis_password)" > redis_url && chmod 644 -- *_*

lock: | $(UV)  ## renew requirements.lock and Label Studio's own pins
	@$(UV) pip compile --quiet --universal --generate-hashes $(LOCKED_EXTRAS) --no-header --no-annotate --upgrade \
		pyproject.toml -o requirements.lock
	@echo "label-studio==$$(cat backend/up/label_studio_version.txt)" | $(UV) pip compile --quiet --universal \
		--python-version $(PYTHON) --generate-hashes --no-header --no-annotate --upgrade - -o backend/up/label_studio.lock

clean:  ## remove the environments; the data folder stays
	rm -rf $(VENV) .tools .label-studio build *.egg-info
