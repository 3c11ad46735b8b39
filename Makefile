# `make book` builds the HTML book, `make test` tests everything; both start from nothing and do only what is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(BIN)/python,$(BIN)/pip install --quiet --no-compile --disable-pip-version-check)
# Named by what the results come from: another revision of it measures again.
SOURCES := $(shell find raretok models constraints.txt -type f -not -name '*.pyc' | sort)
MEASURED := $(or $(RARETOK_STORE),.raretok)/.measured-$(shell cat $(SOURCES) | sha256sum | cut -c1-16)
# Tests of three files at once, for some wait for processes that they start; in the order of tests/conftest.py.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY = 1
export TOKENIZERS_PARALLELISM = true
export PYTHONWARNINGS = ignore::DeprecationWarning
# As raretok/cli/process.py sets it for the package's own commands.
export OPENBLAS_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
# Memory that large arrays give back is kept for the next (glibc only): a tenth to a half less time.
export MALLOC_MMAP_THRESHOLD_ = 4000000000
export MALLOC_TRIM_THRESHOLD_ = 8000000000

.PHONY: book test coverage lint verify fuzz bench device reliability calibration cost precision architectures figure clean

book: $(VENV)/.book $(MEASURED)
	$(BIN)/jupyter-book build . -n -W --keep-going
	@echo "The book is at $(CURDIR)/_build/html/index.html"

test: $(VENV)/.dev book
	OMP_NUM_THREADS=1 $(BIN)/pytest $(AT_ONCE)

# The lines of the package that tests meet: at least nine in ten, and every error that it raises.
coverage: $(VENV)/.dev book
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest $(AT_ONCE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet -o _build/coverage.json
	$(BIN)/python tests/unmet.py _build/coverage.json
	$(BIN)/coverage report

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A sample of the shipped numbers, computed again from the shipped weights: a minute or two.
verify: $(VENV)/.book
	$(BIN)/raretok verify

# A hundred thousand damaged inputs for every reader of outside files, and over a thousand killed writers: an hour and more.
fuzz: $(VENV)/.dev
	$(BIN)/pytest tests/fuzz -o addopts= --hypothesis-profile=fuzz -n 2 --durations=20

bench: $(VENV)/.book
	$(BIN)/python benchmarks/ablation.py
	$(BIN)/python benchmarks/controls.py

# What the package does on a graphics card: benchmarks/device.json, a few minutes. PYTHONPATH=. python benchmarks/device.py
# does the same where the card is and nothing is installed but torch, transformers and what a study imports.
device: $(VENV)/.book
	PYTHONPATH=. $(BIN)/python benchmarks/device.py

# How well effects on rare targets repeat: raretok/shipped/reliability.csv, for the shipped models and for any RUNS of other seeds.
reliability: $(VENV)/.book
	$(BIN)/python benchmarks/reliability.py reviews-neox $(RUNS)

# How often each verdict's rule is wrong: raretok/claims/calibration.csv, three quarters of an hour.
calibration: $(VENV)/.book
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/calibration.py

# Which architectures are exact, and which are refused and why: raretok/model/architectures.csv, half a minute.
architectures: $(VENV)/.book
	$(BIN)/python benchmarks/architectures.py

# What a forward pass in bfloat16 does to every headline: raretok/measure/precision.csv, ten minutes.
precision: $(VENV)/.book
	$(BIN)/python benchmarks/precision.py

# What a study costs by its sizes: raretok/measure/cost.csv, ten minutes on a quiet machine.
cost: $(VENV)/.book
	$(BIN)/python benchmarks/cost.py

# The figure of the README, from the study of the book.
figure: $(VENV)/.book
	$(BIN)/python -c "from raretok import Study; from raretok.book.facts.identification import facts; from raretok.charts.identification import contrast; s = Study(); \
	contrast(s.table('identification.effects'), s.table('identification.rare_token_neurons'), facts(s)).properties(width=640, background='white').save('docs/contrast.png', scale_factor=2)"

clean:
	rm -rf _build $(VENV) .raretok .coverage* sweep report .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

$(VENV)/.book: pyproject.toml constraints.txt raretok/data/packages.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -c constraints.txt -e '.[book,data]'
	$(BIN)/raretok fetch --embedded
	@touch $@

# What most pages show, in an order that fits into memory; the pages would measure it themselves.
$(MEASURED): | $(VENV)/.book
	$(BIN)/raretok claims > /dev/null
	$(BIN)/raretok emergence reviews-neox --corpus movie-reviews-heldout --windows 128 > /dev/null
	$(BIN)/raretok claims reviews-neox --corpus movie-reviews-heldout --windows 128 > /dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/.book
	$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@
