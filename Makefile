.DEFAULT_GOAL := help
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen
ARGS ?=
WHERE = command -v lbipam >/dev/null || echo "(here, lbipam is .venv/bin/lbipam)"
LAB_PACKAGES := curl frr iproute2 nftables
GENERATED := ARCHITECTURE.md docs/cli.md docs/metrics.md docs/performance.md

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.uv/bin/uv:
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv

setup: $(filter .uv/bin/uv,$(UV)) ## make the virtual environment that everything else uses
	@$(UV) sync --frozen --quiet

demo: setup ## the walk-through: pools, Services, who got which address and why
	@$(RUN) lbipam demo
	@$(WHERE)

lab: setup ## as root: the whole chain in network namespaces, with real BGP and traffic
	@for program in ip nft curl vtysh; do command -v $$program >/dev/null || missing=yes; done; \
	if [ "$$missing" ] && [ "$$(id -u)" = 0 ]; then \
	apt-get update -qq && apt-get install -y -qq $(LAB_PACKAGES) >/dev/null; fi
	@$(RUN) lbipam lab
	@$(WHERE)

test: setup ## all tests that this machine can run; ARGS='-k name' picks some
	@$(RUN) pytest -n auto --dist loadfile $(ARGS)

bench: setup ## what decisions cost, and what a controller reaches beside its API server
	@$(RUN) python -m bench --json bench/results/bench.json $(ARGS)

bench-quick: setup ## the same at small sizes, each once
	@$(RUN) python -m bench --quick --json bench/results/bench-quick.json $(ARGS)

bench-baseline: setup ## the same as bench; its figures become those that later ones are compared with
	@$(RUN) python -m bench --json bench/baseline.json --chart docs/performance.svg $(ARGS)

bench-bgp bench-l2 bench-datapath: bench-%: setup ## as root: announcing, answering, carrying, each beside a peer
	@$(RUN) python -m bench.$* $(ARGS)

check: setup ## format, lint, types, import contracts, generated documentation
	$(RUN) ruff format --check
	$(RUN) ruff check
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) cog --check $(GENERATED)

format: setup ## write the code in the house format
	$(RUN) ruff format
	$(RUN) ruff check --fix

docs: setup ## write what of the documentation is made from the program
	$(RUN) cog -r $(GENERATED)
	$(RUN) lbipam crds > deploy/base/crds.yaml
	$(RUN) python docs/generate.py docs/demo.svg
	$(RUN) python -m lbipam.commands.lab.picture > docs/topology.svg

.PHONY: help setup demo lab test bench bench-quick bench-baseline bench-bgp bench-l2 bench-datapath check format docs
