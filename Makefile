# Two commands do everything on a fresh machine: `make serve` and `make test`. `make help` lists the rest.
PYTHON ?= python3
ENGINE ?= embedded
REPOSITORY ?= model_repository
BIN := .venv/bin

# COMPILED=1 serves the hot path as machine code, which takes a C compiler and a minute and a half to build.
COMPILED ?=

.PHONY: help serve test check fix bench proofs clean

help:  ## list the chores
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

serve:  ## set up, then serve REPOSITORY (ENGINE=embedded or vllm; COMPILED=1 for speed; ARGS=... are passed on)
	@PYTHON=$(PYTHON) qa/environment.sh $(if $(filter vllm,$(ENGINE)),vllm,light)
	@$(if $(COMPILED),PYTHONPATH=$$(qa/compiled.sh) && export PYTHONPATH &&) exec $(BIN)/tritium serve $(REPOSITORY) --engine $(ENGINE) $(ARGS)

test:  ## set up everything the tests need, real vLLM for CPU included, and run them (ARGS=... for pytest)
	@PYTHON=$(PYTHON) qa/environment.sh test
	@# What depends on time may miss its bound on a busy machine: two more chances, and the summary names who took one.
	@$(BIN)/python -m pytest -rfEsXR --reruns 2 $(ARGS)

check:  ## lint, types, import directions
	@PYTHON=$(PYTHON) qa/environment.sh test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q qa/unit/structure -k 'not linters'

fix:  ## let ruff mend what it can
	@PYTHON=$(PYTHON) qa/environment.sh test
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench:  ## set up a real Triton beside us, load both in turn, print the ratios (needs wrk and a C compiler)
	@PYTHON=$(PYTHON) qa/environment.sh test
	@$(BIN)/python -m qa.bench.kserve $(ARGS)
	@$(BIN)/python -m qa.bench.openai_front

proofs:  ## what is claimed of fleets, in full: chaos, partitions, real vLLM on two machines (ARGS=--list)
	@PYTHON=$(PYTHON) qa/environment.sh test
	@$(BIN)/python -m qa.proofs $(ARGS)

clean:  ## remove the virtual environment and every cache
	rm -rf .venv .clients .bench .compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
