.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv

setup: $(filter .uv/bin/uv,$(UV)) ## make the virtual environment that everything else uses
	@$(UV) sync --frozen --quiet

demo: setup ## the walk-through: pools, Services, who got which address and why
	@$(RUN) lbipam demo

test: setup ## all tests that this machine can run
	@$(RUN) pytest -n auto

check: setup ## format, lint, types, import contracts
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports

format: setup ## write the code in the house format
	$(RUN) ruff format
	$(RUN) ruff check --fix

.PHONY: help setup demo test check format
