# Needs Python 3.11 or newer, pip and make; installs everything into .venv.
# make PYTHON=python3.12 ...  chooses another Python; make test ARGS="-k topk"  hands options to pytest.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
DEMO := ray_jobs/configs/demo.yaml

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow browser lint docs site bench bench-full bench-quality bench-faults clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## run the whole workflow on a small simulated catalogue; ends with a report
	env -u RAY_ADDRESS $(PY) -m ray_jobs simulate --config $(DEMO)
	env -u RAY_ADDRESS $(PY) -m ray_jobs run --config $(DEMO)
	@printf '\nThe report is Output/demo/report.html; a browser opens it:\n  file://%s/Output/demo/report.html\n' "$(CURDIR)"

test: $(VENV)/.installed-test ## run the default tests
	$(PY) -m pytest -m "not cluster and not gpu" $(ARGS)

test-slow: $(VENV)/.installed-test ## run the tests that start several Ray nodes or need a GPU
	$(PY) -m pytest -m "cluster or gpu" $(ARGS)

browser: ## install Debian's Chromium for the tests of the pages, if there is none
	@tools/install-browser

lint: $(VENV)/.installed-dev ## check style, formatting and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(VENV)/.installed ## write docs/configuration.md from the typed configuration
	$(PY) docs/generate.py

site: $(VENV)/.installed-docs ## build the documentation as a web site in site/; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict $(ARGS)

bench: $(VENV)/.installed-bench ## measure speed, 25 minutes on two cores, into benchmarks/results/
	env -u RAY_ADDRESS $(PY) benchmarks/speed.py $(ARGS)

bench-full: $(VENV)/.installed-bench ## the same with more data, an hour
	env -u RAY_ADDRESS $(PY) benchmarks/speed.py --full $(ARGS)

bench-quality: $(VENV)/.installed ## compare recipes; ARGS="--data DIR" for other data, ARGS=--quick for minutes
	$(PY) benchmarks/quality.py $(ARGS)

bench-faults: $(VENV)/.installed ## inject faults into every stage at drawn moments, half an hour
	env -u RAY_ADDRESS $(PY) -m benchmarks.faults $(ARGS)

clean: ## remove caches and build products, not .venv, data or Output
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp means that .venv holds what pyproject.toml asks for; it is renewed when that file changes.

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo 'not there')."; \
	  echo "Name another one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(PY)
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(PY)
	$(PIP) install -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(PY)
	$(PIP) install -e '.[docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-bench: pyproject.toml | $(PY)
	$(PIP) install -e '.[bench]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml | $(PY)
	$(PIP) install -e '.[dev]'
	@touch $(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-docs $@
