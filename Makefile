# The dependency graph of the compendium. `make` alone prints help.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/ready
STEMS := $(basename $(notdir $(sort $(wildcard notebooks/*.ipynb))))
CHAPTERS := $(STEMS:%=results/%/provenance.json)
ARGS ?=

.PHONY: help book test data reproduce quick lint lock clean $(STEMS)
.DELETE_ON_ERROR:

help:  ## print this help
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-10s %s\n", $$1, $$2 }'
	@echo "or one notebook: $(STEMS)"
	@echo '  as in: make 05-baselines ARGS="-p n_seeds 20 --to results/trial"'

# Set-up: exact versions from the lock, then this project itself

$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) from requirements.lock (some minutes the first time: torch is large)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else "Python 3.11 or 3.12 is needed, not %d.%d: make PYTHON=python3.11 ..." % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Chapters. What a notebook uses, one line each: the picture of the project. Whether it runs again is decided on
# content by naaplib.run, so that a fresh clone, whose files are all equally new, runs nothing.

HOUSE := $(addprefix naaplib/,results.py sources.py architectures/schemes.py report/figures/style.py)
TRAINING := $(addprefix naaplib/training/,checkpoints.py cifar10.py network.py recipe.py) naaplib/architectures/networks.py
POPULATION := $(TRAINING) $(addprefix naaplib/training/,compiled.py population.py stacked.py trainer.py units.py)
TABLE := naaplib/tables/naap440.py
PREDICTORS := $(TRAINING) $(TABLE) $(addprefix naaplib/,metrics.py architectures/cells.py architectures/graphs.py) \
    $(addprefix naaplib/estimators/,graph_networks.py predictors.py repeated.py targets.py) \
    $(addprefix naaplib/report/,prediction.py predictor_tasks.py) \
    $(addprefix naaplib/tables/,arrays.py benchmarks.py derived.py graph_benchmarks.py)
STUDY := $(TABLE) $(addprefix naaplib/,metrics.py tables/features.py tables/printed.py estimators/regressors.py \
    report/protocols.py report/agreement.py)

results/01-search-space/provenance.json: $(HOUSE) naaplib/architectures/tree.py naaplib/report/figures/search_space.py
results/02-training-recipe/provenance.json: $(HOUSE) $(TRAINING) $(TABLE) naaplib/report/logs.py naaplib/report/figures/training.py
results/03-accuracy-table/provenance.json: $(HOUSE) $(POPULATION) $(TABLE) \
    $(addprefix naaplib/,metrics.py tables/features.py tables/kept.py tables/trainings.py estimators/regressors.py) \
    $(addprefix naaplib/report/,logs.py protocols.py retraining.py figures/retraining.py)
results/04-feature-ablation/provenance.json: $(HOUSE) $(STUDY) naaplib/estimators/candidates.py \
    $(addprefix naaplib/report/,ablation.py selection.py figures/ablation.py)
results/05-baselines/provenance.json: $(HOUSE) $(STUDY) naaplib/report/figures/regression.py
results/06-training-free-scores/provenance.json: $(HOUSE) $(TRAINING) $(TABLE) \
    $(addprefix naaplib/,architectures/cells.py metrics.py search/by_score.py) \
    $(addprefix naaplib/tables/,benchmarks.py features.py kept.py) \
    $(addprefix naaplib/estimators/,activations.py gradients.py penalties.py proxies.py regressors.py scoring.py) \
    $(addprefix naaplib/report/,protocols.py ranking.py training_free.py figures/ranking.py)
results/07-feature-histories/provenance.json: $(HOUSE) $(POPULATION) $(TABLE) naaplib/metrics.py naaplib/architectures/classics.py \
    $(addprefix naaplib/estimators/,curves.py histories.py linear_layers.py regressors.py) \
    $(addprefix naaplib/report/,early.py history_study.py logs.py protocols.py ranking.py trained_study.py figures/histories.py) \
    $(addprefix naaplib/search/,journal.py ledger.py objectives.py proposals.py strategies.py trained.py) \
    $(addprefix naaplib/tables/,features.py kept.py trainings.py) \
    $(addprefix naaplib/training/,augmentation.py feature_history.py watch.py)
results/08-neural-predictor/provenance.json: $(HOUSE) $(PREDICTORS) \
    $(addprefix naaplib/,tables/features.py tables/printed.py estimators/regressors.py) \
    $(addprefix naaplib/report/,predictor_study.py protocols.py replication.py replication_search.py) \
    $(addprefix naaplib/report/figures/,predictors.py replication.py)
results/09-search-strategies/provenance.json: $(HOUSE) $(PREDICTORS) \
    $(addprefix naaplib/search/,guided.py journal.py ledger.py objectives.py proposals.py strategies.py table.py trained.py) \
    $(addprefix naaplib/report/,guided_study.py logs.py strategy_study.py trained_study.py figures/search.py) \
    $(addprefix naaplib/,architectures/classics.py estimators/linear_layers.py tables/kept.py) \
    $(addprefix naaplib/training/,augmentation.py feature_history.py stacked.py trainer.py watch.py) \
    results/07-feature-histories/provenance.json
results/10-architecture-tuning/provenance.json: $(HOUSE) $(TRAINING) $(TABLE) naaplib/metrics.py \
    $(addprefix naaplib/architectures/,cells.py graphs.py mobileone.py spaces.py swiftformer.py) \
    $(addprefix naaplib/estimators/,activations.py calibration.py cheap_metrics.py deep_ensembles.py dense_networks.py) \
    $(addprefix naaplib/estimators/,encodings.py ensemble_files.py gradients.py graph_networks.py predictors.py) \
    $(addprefix naaplib/estimators/,repeated.py targets.py) \
    $(addprefix naaplib/report/,guided_study.py prediction.py predictor_tasks.py tuning_grounds.py tuning_kept.py) \
    $(addprefix naaplib/report/,tuning_study.py tuning_tables.py figures/tuning.py) \
    $(addprefix naaplib/search/,acquisition.py baselines.py guided.py image_classification.py journal.py processes.py) \
    $(addprefix naaplib/search/,proposals.py search_space.py table.py tuning.py) \
    $(addprefix naaplib/tables/,benchmarks.py kept.py) \
    $(addprefix naaplib/training/,image_datasets.py stacked.py trainer.py)
results/11-scale/provenance.json: $(HOUSE) $(POPULATION) naaplib/provenance.py \
    $(addprefix naaplib/report/,cost.py scale.py figures/scale.py)

results/%/provenance.json: notebooks/%.ipynb $(READY)
	@$(BIN)/python -m naaplib.run $*

$(STEMS): $(READY)
	@$(BIN)/python -m naaplib.run $@ $(ARGS)

# What a person asks for

book: $(READY) $(CHAPTERS)  ## bring every notebook up to date and build the book
	$(BIN)/jupyter-book build book -n -W --keep-going
	@echo "The book: book/_build/html/index.html"

test: $(READY)  ## run the whole test suite, nbval included
	$(BIN)/python -m pytest --nbval -n 2 --dist loadfile
	@echo "All tests passed."

data: $(READY)  ## fetch CIFAR-10 and the public tables into data/
	$(BIN)/python -m naaplib.sources
	$(BIN)/python -m naaplib.training.cifar10

reproduce: $(READY)  ## run every notebook from scratch and report, table by table, what came out
	$(BIN)/python -m naaplib.run --reproduce

quick: $(READY)  ## make the quick copies that nbval re-executes
	@for stem in $(STEMS); do $(BIN)/python -m naaplib.run $$stem --quick || exit 1; done

lint: $(READY)  ## check format, style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb

lock: $(READY)  ## pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
		--custom-compile-command "make lock" -o requirements.lock

clean:  ## remove everything that make can make again, the environment and data excepted
	rm -rf build book/_build .pytest_cache .mypy_cache .ruff_cache .benchmarks
