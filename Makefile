# Amber. `make` lists the verbs.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: help install demo docs test lint types bench-catalog bench-plan bench-pays bench-labels bench-cold bench-answerable bench-streets bench-demo bench-tutorial bench-heads bench-start bench-scale bench-browse bench-pack bench-stream bench-labeling bench-pages bench-page bench-train bench-gpu bench-decide bench-ask bench-kinds bench-dynamics golden soak clean

help: ## Say what each verb does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: .venv/train ## Make .venv and install Amber with its locked dependencies

demo: .venv/train ## Fetch real images and go once round the loop; then see demo-out/report.html
	@$(BIN)/python -m amber.demo

test: .venv/test .venv-label-studio/ready ## Lint, types and all tests
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

docs: .venv/test ## Build the docs into site/: open site/index.html; it needs neither a network nor a server
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "open site/index.html"

lint: .venv/test ## Mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

types: .venv/test ## Check the types
	@$(BIN)/mypy

bench-catalog: .venv/train .venv-peers/ready ## Time and bytes of the catalog beside FiftyOne, pandas, SQLite and Parquet (SCALE=small, large)
	@$(BIN)/python -m benchmarks.catalog

bench-plan: .venv/train .venv-plan-peers/ready ## How exact, even and fast plans are, beside the mixers of loaders (SCALE=small)
	@$(BIN)/python -m benchmarks.plan

bench-pays: .venv/train ## Whether the composed plan pays on streets, beside natural draws and one sampler for all (SCALE=small)
	@$(BIN)/python -m benchmarks.pays

bench-labels: .venv/train ## Labels needed to find the rare: mined against random (SCALE=small for two minutes; DATA=FOLDER for any data set)
	@DATA='$(DATA)' $(BIN)/python -m benchmarks.$(if $(DATA),labels_data,labels)

bench-cold: .venv/train ## How often 100 labels find a class at 1% of which none is known (DATA=FOLDER, SCALE=small)
	@DATA='$(DATA)' $(BIN)/python -m benchmarks.cold_start

bench-answerable: .venv/train ## How many requests for a task that does not apply everywhere have no answer (SCALE=small; DATA=FOLDER TASK=NAME APPLIES=PREDICATE)
	@$(BIN)/python -m benchmarks.answerable

bench-streets: .venv/train ## The rare slices and all other tasks of streets: mined against random
	@$(BIN)/python -m benchmarks.streets

bench-demo: .venv/test ## Time and memory of the demo
	@$(BIN)/python -m benchmarks.demo

bench-tutorial: .venv/test ## From a clone through the tutorial to the team's page, on the clock
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.tutorial

bench-heads: .venv/train .venv-heads-peers/ready ## Heads on frozen features beside scikit-learn, alone and shared (SCALE=small, DATA=FOLDER)
	@$(BIN)/python -m benchmarks.heads

bench-start: .venv/test ## How long every verb takes to start (SCALE=small)
	@$(BIN)/python -m benchmarks.start

bench-scale: .venv/test ## The catalog on DuckLake (URL=postgresql://...) beside one file, by SAMPLES
	@URL='$(URL)' SAMPLES=$(or $(SAMPLES),100000) $(BIN)/python -m benchmarks.scale

bench-browse: .venv/test ## The mirror in FiftyOne beside its own add_samples (SCALE=small for a minute)
	@$(BIN)/python -m benchmarks.browse

bench-pack: .venv/test .venv-stream-peers/ready ## Writing, materializing and reading packs beside cat and other formats (SCALE=small)
	@$(BIN)/python -m benchmarks.pack

bench-stream: .venv/test .venv-stream-peers/ready ## Batches, first batch, memory and far packs beside other loaders (SCALE=small)
	@$(BIN)/python -m benchmarks.stream

bench-pages: .venv/test ## Time and memory of one page of every long list of the service (SAMPLES=10000000)
	@SAMPLES=$(or $(SAMPLES),1000000) $(BIN)/python -m benchmarks.pages

bench-page: .venv/test ## The team's pages in a browser at 1M samples, 50 tasks, 200 slices, 20 runs, with 32 readers (ROWS=pages,paint,readers; SCALE=small, SAMPLES, CATALOG=FOLDER)
	@$(BIN)/python -m benchmarks.page

bench-labeling: .venv/test .venv-label-studio/ready ## Push 10,000 items, pull 1,000 changed, the loop with people who err, thumbnails for 32 clients (SCALE=small)
	@AMBER_LABEL_STUDIO=.venv-label-studio $(BIN)/python -m benchmarks.labeling

bench-train: .venv/test .venv-train-peers/ready ## Steps of many tasks beside peers, stopping, trees, kills, ranks and exports, by parts (ROWS=steps,planted; DATA=FOLDER, SCALE=small)
	@$(BIN)/python -m benchmarks.train

bench-gpu: .venv/train ## The trainer on a GPU: images a second, waiting for data, bf16, compiling; says so without one
	@$(BIN)/python -m benchmarks.gpu

bench-decide: .venv/train ## Compare, gate, labels that judge, prevalence and drift, beside the usual rules (ROWS=blocks,errors; DEMO=FOLDER; SCALE=small)
	@$(BIN)/python -m benchmarks.decide

bench-ask: .venv/train .venv-ask-peers/ready ## Undeclared slices, wrong labels, similar images, triggers, strategies, forecasts, the queue, beside SliceLine, cleanlab and published strategies (ROWS=discovery,triggers,mining,forecast; SETS, DATA, CARDS, CINTA; SCALE=small)
	@$(BIN)/python -m benchmarks.ask

bench-kinds: .venv/train ## Tasks of several classes, of boxes, of two frames: beside scikit-learn and the mean box, mining at 2% (ROWS=several,lights,pairs; DATA, CINTA, CARLA=FOLDER; CLASS=NAME; SCALE=small)
	@$(BIN)/python -m benchmarks.kinds

bench-dynamics: .venv/train ## Which tasks help each other, trees, weights, retraining and replay: planted truth and null data (ROWS=pairs,groups,search; RUNS, FIRST_SEED; SCALE=small)
	@$(BIN)/python -m benchmarks.dynamics

golden: .venv/test ## The hash of a plan under other releases of duckdb and numpy
	@set -e; for other in duckdb==2.0.0 duckdb==2.0.1 numpy==2.4.6; do \
		echo "$$other"; $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --upgrade --target .venv-golden/$$other $$other; \
		PYTHONPATH=.venv-golden/$$other $(BIN)/python -m pytest -W "ignore:Arrow output" tests/samplers/plan/test_golden.py; done

soak: .venv/test .venv-label-studio/ready ## The long tests: kills, writers side by side, a thousand faults of a network
	@AMBER_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 3600

clean: ## Remove what the demo and the benchmarks left here
	rm -rf demo-out bench-out build site .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Amber needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/train: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing Amber with what trains and serves (a minute or two)"
	@$(INSTALL) --editable '.[train,service]' && touch $@

.venv-peers/ready: benchmarks/catalog-peers.txt
	@echo "making .venv-peers with what the catalog is measured against (a minute or two)"
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && touch $@

.venv-heads-peers/ready: benchmarks/heads-peers.txt
	@echo "making .venv-heads-peers with scikit-learn (a minute)"
	@$(PYTHON) -m venv .venv-heads-peers
	@.venv-heads-peers/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && touch $@

.venv-ask-peers/ready: benchmarks/ask-peers.txt
	@echo "making .venv-ask-peers with SliceLine and cleanlab (a minute)"
	@$(PYTHON) -m venv .venv-ask-peers
	@.venv-ask-peers/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && touch $@

.venv-train-peers/ready: benchmarks/train-peers.txt
	@echo "making .venv-train-peers with torchjd and LibMTL (a minute or two: it holds a torch)"
	@$(PYTHON) -m venv .venv-train-peers
	@.venv-train-peers/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	@.venv-train-peers/bin/python -m pip install -qq --disable-pip-version-check --no-deps --requirement $< && touch $@

.venv-label-studio/ready: curation/labelstudio/label-studio.txt
	@echo "making .venv-label-studio with the real Label Studio (1 GB, a minute or two)"
	@$(PYTHON) -m venv .venv-label-studio
	@.venv-label-studio/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && touch $@

.venv-stream-peers/ready: benchmarks/stream-peers.txt
	@echo "making .venv-stream-peers with what packs and streams are measured against (some minutes)"
	@$(PYTHON) -m venv .venv-stream-peers
	@.venv-stream-peers/bin/python -m pip install -qq --disable-pip-version-check torch==2.13.0
	@.venv-stream-peers/bin/python -m pip install -qq --disable-pip-version-check --requirement $<
	@.venv-stream-peers/bin/python -m pip uninstall -qq --yes torchvision && touch $@ # its wheel wants a torch with CUDA

.venv-plan-peers/ready: benchmarks/plan-peers.txt
	@echo "making .venv-plan-peers with the mixers that plans are measured against (some minutes: it holds a torch)"
	@$(PYTHON) -m venv .venv-plan-peers
	@.venv-plan-peers/bin/python -m pip install -qq --disable-pip-version-check $$(grep -o '^torch==[0-9.]*' $<)
	@.venv-plan-peers/bin/python -m pip install -qq --disable-pip-version-check --requirement $< && touch $@

.venv/test: .venv/train
	@echo "installing the test tools"
	@$(INSTALL) --editable '.[train,export,timm,test,lake,browse,ray,labeling,service,shards,search,docs]' && touch $@
