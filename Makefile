# Every target installs what it needs into .venv by itself: a fresh clone needs nothing but Python >= 3.10.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Processes that share the tests, one thread each: more of them need more memory (1 GB each).
WORKERS ?= 2
# Slow tests wait for processes that they start, so one more keeps the cores busy.
SLOW_WORKERS ?= 3
QUICK  := not slow and not real_data
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile

# Container images often forbid Python to keep compiled files: every process would then compile torch anew (10 s).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all coverage lint format typecheck bench archive docs-tables clean

help: ## Show this list
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## Install the package and its tools into .venv

# pip leaves an environment alone that already has the right versions. It compiles nothing, for all
# files would take minutes; what training imports is compiled next, since a later python train.py may be forbidden to.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import lacuna.config.compose, lacuna.training.run'
	@touch $@

demo: $(STAMP) ## Compare methods on digits with three quarters of the pixels missing: pictures, a table, a page (2 minutes)
	$(BIN)/python reproduce.py table=demo seeds=5 executor=processes $(ARGS)

test: $(STAMP) ## Run every law and every other test that takes seconds (6 minutes on 2 cores)
	$(PYTEST) -n $(WORKERS) -m "$(QUICK)" $(TEST_ARGS) $(ARGS)

test-all: test ## Run these, then the slow tests and those that need real images (found through LACUNA_TEST_DATA)
	$(PYTEST) -n $(SLOW_WORKERS) --no-loadscope-reorder -m "not ($(QUICK))" $(if $(TEST_ARGS),$(TEST_ARGS) --cov-append) $(ARGS)

coverage: TEST_ARGS = --cov --cov-report=term
coverage: test-all ## Run what make test-all runs, and print how much of the code it reaches

lint: $(STAMP) ## Check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## Mend style and layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP) ## Check types (strict)
	$(BIN)/mypy

bench: $(STAMP) ## Measure against bare loops and other libraries (on an idle machine); all ratios in one table at the end
	@mkdir -p build; rm -f build/bench.jsonl; failed=0; for script in scripts/bench/[a-z]*.py; do echo "== $$script"; \
		BENCH_ROWS=build/bench.jsonl $(BIN)/python "$$script" || { failed=1; echo "$$script: a bound is missed"; }; done; \
		$(BIN)/python scripts/bench/_report.py build/bench.jsonl; exit $$failed

archive: $(STAMP) ## Archive the finished runs of outputs/runs: one small file each in results/
	$(BIN)/python scripts/archive.py $(ARGS)

docs-tables: $(STAMP) ## Write the numbers of results/ into the tables of README and docs
	$(BIN)/python scripts/docs_tables.py $(ARGS)

gpu: ## Tests, times and results on a GPU machine without network, in a time box: make gpu ARGS="minutes=12 data=DIR output=DIR"
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) scripts/gpu.py $(ARGS)

.PHONY: docs docs-build
docs: $(VENV)/.docs ## Build the documentation and serve it on this machine, anew after every change
	$(BIN)/mkdocs serve $(ARGS)

docs-build: $(VENV)/.docs ## Build the documentation into build/site; a warning is an error
	$(BIN)/mkdocs build --strict $(ARGS)

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean: ## Remove caches and builds (data and runs under outputs/ stay)
	rm -rf build dist .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	rm -f $(STAMP)
