# What a person asks for. `make` alone prints help.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/ready
STEMS := $(basename $(notdir $(sort $(wildcard notebooks/*.ipynb))))
ARGS ?=
WHAT ?=
FAST ?=
CHROMIUM ?= chromium
# torch, oneDNN and OpenBLAS then take the code that they have for a processor of these instructions
OTHER_PROCESSOR := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell

.PHONY: help book pdf test elsewhere data reproduce records-accuracy-table gpu quick lint lock clean $(STEMS)
.DELETE_ON_ERROR:

help:  ## print this help
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-22s %s\n", $$1, $$2 }'
	@echo "or one notebook: $(STEMS)"
	@echo '  as in: make 05-baselines ARGS="-p n_seeds 20 --to results/trial"'
	@echo "or the slow work of a study that its notebook reads: make records-training-free-scores"

# Set-up: exact versions from the lock, then this project itself

$(READY): requirements.lock pyproject.toml
	@echo "Setting up $(VENV) from requirements.lock (some minutes the first time: torch is large)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 14) else "Python 3.11 to 3.14 is needed, not %d.%d: make PYTHON=python3.14 ..." % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# One chapter; whether it runs again is decided on content, so that a fresh clone runs nothing

$(STEMS): $(READY)
	@$(BIN)/python -m naaplib.compendium.run $@ $(ARGS)

# Slow work of one study, piece by piece; what is there already is not made again

records-%: $(READY)
	@$(BIN)/python -m naaplib.compendium.make_records $* $(ARGS)

# What a person asks for

ifdef SOURCE
book: $(READY)
	@$(BIN)/python -m naaplib.compendium.editions $(SOURCE) $(CHAPTERS) $(ARGS)
else
book: $(READY)  ## bring every notebook up to date and build the book; SOURCE=a table: beside it, on that table
	@$(BIN)/python -m naaplib.compendium.run --all
	$(BIN)/jupyter-book build book -n -W --keep-going
	@echo "The book: book/_build/html/index.html"
endif

pdf: $(READY)  ## print the book from the committed results as book/_build/naaplib.pdf (needs Chromium)
	@command -v $(CHROMIUM) >/dev/null || { echo "No $(CHROMIUM) here: install it, or say make pdf CHROMIUM=..."; exit 1; }
	$(BIN)/jupyter-book build book --builder singlehtml -q -n --keep-going
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --no-pdf-header-footer --virtual-time-budget=20000 \
		--print-to-pdf=book/_build/naaplib.pdf "file://$(CURDIR)/book/_build/singlehtml/intro.html" 2>/dev/null
	@echo "The book as PDF: book/_build/naaplib.pdf"

test: $(READY)  ## run the whole test suite, nbval included
	$(BIN)/python -m pytest --nbval -n 2 --dist loadfile
	@echo "All tests passed."

elsewhere: $(READY)  ## run what depends on the processor once more, as one of another make would
	$(OTHER_PROCESSOR) $(BIN)/python -m pytest --nbval -n 2 --dist loadfile tests/notebooks tests/estimators tests/training
	@echo "All of it passed as on another processor."

data: $(READY)  ## bring all data that notebooks read into data/, or what WHAT names: WHAT=naap440, WHAT=08-neural-predictor
	@$(BIN)/python -m naaplib.tables.fetch $(WHAT)

reproduce: $(READY)  ## make records and run every notebook again, report by table; FAST=1 takes records as they are
	$(BIN)/python -m naaplib.compendium.run --reproduce $(if $(FAST),--fast)

records-accuracy-table: $(READY)  ## train the table: N_JOBS= processes, SECONDS= at most; or FROM=a.zip
	@$(BIN)/python -m naaplib.compendium.train_plan $(if $(N_JOBS),--n-jobs $(N_JOBS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(FROM),--from $(FROM))

gpu: $(READY)  ## train the table on GPUs within SECONDS=, after checks and timings, into build/gpu/records.zip
	@$(BIN)/python -m benchmarks.on_gpu --out build/gpu $(if $(SECONDS),--seconds $(SECONDS)) $(ARGS)

quick: $(READY)  ## make the quick copies that nbval re-executes
	@for stem in $(STEMS); do $(BIN)/python -m naaplib.compendium.run $$stem --quick || exit 1; done

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
