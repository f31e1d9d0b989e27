# make help

SCALE ?= paper
NOTEBOOKS := $(basename $(notdir $(filter-out %.part.ipynb,$(sort $(wildcard notebooks/[0-9]*.ipynb)))))
FIGURES := $(NOTEBOOKS:%=figures/%.ipynb)

# An active conda environment that holds privgan is used as it is; otherwise .venv is made
# from requirements.lock the first time it is needed. -I keeps this folder off Python's path.
PYTHON ?= python3
ifneq ($(CONDA_PREFIX),)
CONDA_READY := $(shell "$(CONDA_PREFIX)/bin/python" -I -c "import importlib.metadata as m; [m.version(p) for p in ('privgan', 'papermill', 'nbval')]" 2>/dev/null && echo yes)
endif
ifeq ($(CONDA_READY),yes)
PY := "$(CONDA_PREFIX)/bin/python"
ENV :=
else
PY := .venv/bin/python
ENV := .venv/ready
endif

export PYTHONDONTWRITEBYTECODE := 1

# Results are stamped in build/, not judged by the dates of the committed files: in a clone
# those are arbitrary.
STAMPS := $(NOTEBOOKS:%=build/$(SCALE)-%.stamp)
INTO := $(if $(filter smoke,$(SCALE)),build/smoke,figures)
CORES := $(shell getconf _NPROCESSORS_ONLN)
# Tests run side by side; each process takes about a gigabyte.
TESTERS := $(shell echo $$(($(CORES) < 4 ? $(CORES) : 4)))
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),1)
THREADS = $(shell n=$$(($(CORES) / $(JOBS))); echo $$((n > 0 ? n : 1)))

.PHONY: help figures test lint lab env templates site bench mutants gpu gpu-wheels clean $(FIGURES)
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make figures               execute every notebook at paper scale into figures/, print the claims"
	@echo "make figures -j2           the same, two notebooks at a time"
	@echo "make figures SCALE=smoke   small and fast, into build/smoke/"
	@echo "make figures CLUSTER=tcp://HOST:8786   the trainings on the workers of a dask scheduler"
	@echo "make figures/NAME.ipynb    one notebook: $(NOTEBOOKS)"
	@echo "make test                  lint and types, unit tests, the notebooks' stored outputs against a fresh run"
	@echo "make lint                  only the first of these"
	@echo "make lab                   JupyterLab with the right kernel"
	@echo "make env                   only set up .venv"
	@echo "make site                  the notebooks, docs and reference as pages to read, into build/site/"
	@echo "make bench                 time the solver beside its peers, in an environment of their own"
	@echo "make mutants               the small changes to MODULE=$(MODULE) that TESTS=... do not notice"
	@echo "make gpu                   all that needs a CUDA device, in eight minutes, with the python at hand;"
	@echo "                           make gpu-wheels before, where packages can be fetched; DEVICE=cpu rehearses"
	@echo "make templates             re-run the templates in notebooks/ in place, after changing them"
	@echo "make clean                 remove build/ and caches; figures/ and .venv stay"

figures: $(STAMPS)
	@$(PY) -m privgan.artifact.run summary --into $(INTO) --scale $(SCALE) $(NOTEBOOKS)

$(FIGURES): figures/%.ipynb: build/$(SCALE)-%.stamp

build/$(SCALE)-%.stamp: notebooks/%.ipynb notebooks/scales.yaml $(wildcard privgan/*.py privgan/*/*.py) privgan/artifact/paper.mplstyle $(ENV)
	@echo "$*: $(SCALE) scale, into $(INTO)/"
	@OMP_NUM_THREADS=$(THREADS) $(PY) -m privgan.artifact.run run $* --scale $(SCALE) --into $(INTO) \
		$(if $(CLUSTER),--cluster "$(CLUSTER)")

test: lint
	OMP_NUM_THREADS=$$(($(CORES) / $(TESTERS))) $(PY) -m pytest -rs -n $(TESTERS) --dist loadscope \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 notebooks tests

lint: $(ENV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# The settings there open pages of text to be read, not edited.
lab: $(ENV)
	JUPYTER_PREFER_ENV_PATH=1 $(PY) -m jupyterlab notebooks --LabApp.default_url=/lab/tree/README.md \
		--LabApp.app_settings_dir="$(CURDIR)/notebooks/lab"

templates: $(ENV)
	for name in $(NOTEBOOKS); do $(PY) -m privgan.artifact.run refresh $$name || exit 1; done

site: .venv-site/ready
	PYTHONPATH=. .venv-site/bin/python site/build.py
	.venv-site/bin/python -m pytest -q -p no:cacheprovider site
	@echo "build/site/index.html"

bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks.run
	.venv-bench/bin/python -m benchmarks.rows
	.venv-bench/bin/python -m benchmarks.ranks

# Changes one module in every small way, in a copy, and lists what no test noticed: each is either
# no change at all or a test to write: tests/mutants.md. What is printed ends mutmut's own table.
MODULE ?= artifact/metrics
TESTS ?= tests/$(dir $(MODULE))test_$(patsubst _%,%,$(notdir $(MODULE))).py
mutants: .venv-mutants/ready
	@rm -rf build/mutants && mkdir -p build/mutants
	@cp -rp privgan tests pyproject.toml build/mutants
	@printf 'only_mutate = ["%s"]\npytest_add_cli_args_test_selection = ["%s"]\n' \
		'privgan/$(MODULE).py' '$(TESTS)' >> build/mutants/pyproject.toml
	cd build/mutants && OMP_NUM_THREADS=1 ../../.venv-mutants/bin/python -m mutmut run --max-children 1
	@cd build/mutants && ../../.venv-mutants/bin/python -m mutmut results

# On the device's own Python, which need not be the lock's: nothing is installed but the wheels.
DEVICE ?= cuda
gpu:
	$(PYTHON) -m benchmarks.gpu --device $(DEVICE) $(if $(filter cpu,$(DEVICE)),--tiny)

# What a bare machine with PyTorch may lack, for Python 3.12 on x86-64 Linux.
gpu-wheels:
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
	  --python-version 3.12 --implementation cp \
	  $(foreach glibc,2_28 2_27 2_17,--platform manylinux_$(glibc)_x86_64) --platform manylinux2014_x86_64 \
	  --dest build/wheels -r benchmarks/gpu/requirements.txt
	@du -sh build/wheels

env: $(ENV)

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed, this is %d.%d; try make PYTHON=python3.12' % sys.version_info[:2] if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv-bench/ready: benchmarks/requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv-site/ready: site/requirements.txt requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-site
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	.venv-site/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv-mutants/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv-mutants
	.venv-mutants/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	.venv-mutants/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e .[mutants]
	@touch $@

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis figures/.*.stage figures/*.failed.ipynb
	find privgan tests notebooks -name __pycache__ -prune -exec rm -rf {} +
