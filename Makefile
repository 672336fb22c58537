# make setup   a virtual environment with everything, versions pinned
# make run     the whole pipeline on the embedded default, in data_lake/demo
# make year    a simulated year in a few minutes, in data_lake/year, to be looked at in Dagster
# make ui      Dagster on that lake (LAKE=data_lake/main for another)
# make fast    the tests of a minute or two: no browser, Dagster, kills, real data or slow ones
# make test    every check
# make cluster-test  the tests of several machines: they start an object store, Postgres and Ray
# make nightly every check, with the dear variants of tests and more random examples
# make docs    the documentation as a site, in build/site
# make lock    requirements*.lock anew: what constraints.txt pins, with hashes
# make sbom    what an installation consists of, as CycloneDX, in build/sbom.json
# make lambda  the zip of an AWS Lambda function with the live bundle of LAKE, in build/ (docs/lambda.md)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAKE ?= data_lake/demo
YEAR ?= data_lake/year
STEP ?= 60# days between two refreshes
DEMO_USER := hiro.frost# one of the five the simulated crawl starts from
LAMBDA_OPTIONS ?=# --arch arm64, --python 3.12, --without-bundle or --only-bundle
STAMP := $(VENV)/.installed
LOCK := requirements-dev.lock
LOCKED_TORCH = $(shell sed -n 's/^torch==\([^ ]*\).*/\1/p' $(LOCK))
TOOLS := build/tools
CLUSTER := build/cluster
# What `make lock` adds to find torch's CPU build; where its index is not reached, --find-links FOLDER with the wheel.
LOCK_OPTIONS ?= --torch-backend cpu

# The processes that tests start would each compile the program again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run year ui fast test cluster-test nightly check unit docs lambda lock sbom constraints clean

setup: $(STAMP)

# The lock fits one kind of machine, and an index that has torch's CPU build. Another installs the same versions
# without hashes. A hash that differs stops the set-up.
$(STAMP): pyproject.toml constraints.txt $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "tunegraph needs Python 3.11 to 3.13; name one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@if ! $(BIN)/python -c 'import platform as p, sys; sys.exit((p.system(), p.machine(), sys.version_info[:2]) != ("Linux", "x86_64", (3, 11)))'; then \
		echo "$(LOCK) is for Python 3.11 on Linux x86-64: installing constraints.txt, without hashes"; $(UNLOCKED); \
	elif ! $(BIN)/python -m pip index versions torch 2>&1 | grep -qF '$(LOCKED_TORCH)'; then \
		echo "$(LOCK) needs torch $(LOCKED_TORCH), which this package index does not have (see README.md, Develop): installing constraints.txt, without hashes"; $(UNLOCKED); \
	else \
		echo "installing $(LOCK), by hashes"; $(LOCKED); \
	fi
	@touch $@

LOCKED = $(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK) \
	&& $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
UNLOCKED = $(BIN)/python -m pip install --quiet --upgrade pip \
	&& $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'

run: setup
	$(BIN)/tunegraph refresh --lake $(LAKE) --source simulator
	@$(BIN)/tunegraph recommend --lake $(LAKE) --user $(DEMO_USER)
	@echo "Next: make ui                                    the same run in Dagster, with plots"
	@echo "      $(BIN)/tunegraph serve --lake $(LAKE)   a page to try it in, and the API"
	@echo "      $(BIN)/tunegraph recommend --help           for other users, or for songs of your choice"
	@echo "      $(BIN)/tunegraph import FILE                 your own likes, in a lake of their own"

# A small world that is looked into, not crawled over HTTP; a day that is there already costs next to nothing.
year: setup
	@mkdir -p $(YEAR)
	@test -e $(YEAR)/lake.json || cp docs/year.json $(YEAR)/lake.json
	$(BIN)/tunegraph refresh --lake $(YEAR) --source simulator --from 2026-01-01 --to $$(date -u +%F) --step $(STEP)
	@echo "Next: make ui LAKE=$(YEAR)   every day and every run of it in Dagster"

ui: setup
	$(BIN)/tunegraph ui --lake $(LAKE)

# A file stays on one worker, so that what its tests share is made once; the order is that of conftest.py.
fast: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not browser and not dagster and not kill and not real_data and not cluster"

# Side by side: the type checker is busy on one core for a minute where it has no cache.
test: setup
	@$(MAKE) --no-print-directory -j2 check unit

nightly: export TUNEGRAPH_THOROUGH = 1
nightly: test

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/dg check defs

unit: setup
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not cluster"

# Three files at a time, which mostly wait: a file stays on one worker, so that its tests share the servers they start.
cluster-test: $(CLUSTER)/.installed
	TUNEGRAPH_REQUIRE_CLUSTER=1 $(CLUSTER)/bin/python -m pytest -n 3 --dist loadfile -m cluster tunegraph_pipeline_tests/cluster

# An environment on top of $(VENV), which stays without Ray: it sees everything of that one, and has the extra besides.
$(CLUSTER)/.installed: $(STAMP)
	$(BIN)/python -m venv --clear $(CLUSTER)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(CLUSTER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/tunegraph_venv.pth"
	@$(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*extras["cluster"], *extras["cluster-test"], sep="\n")' > build/cluster.in
	$(CLUSTER)/bin/python -m pip install --quiet --constraint constraints.txt --requirement build/cluster.in
	@touch $@

docs: setup
	$(BIN)/mkdocs build --strict

lambda: setup
	$(BIN)/python -m tunegraph_pipeline.serve.aws_lambda.package --lake $(LAKE) $(LAMBDA_OPTIONS)

# After a change of dependencies: resolve anew without the old pins, then pin what was installed.
constraints:
	$(PYTHON) -m venv --clear build/everything
	build/everything/bin/python -m pip install --quiet --editable '.[als,index,dev,docs,cluster,cluster-test]' torch==2.13.0
	(sed -n '/^#/p' constraints.txt; build/everything/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//') > .constraints.new
	mv .constraints.new constraints.txt
	$(MAKE) --no-print-directory lock

# Three locks: what runs, that with the extras of `make setup`, and what runs on several machines, where catalogues are
# large enough for the index. All have what builds
# the package (editables is what hatchling wants for an editable one), so that no build fetches it.
lock: $(TOOLS)/bin/uv
	@sed 's/^\(torch==[0-9.]*\)$$/\1+cpu/' constraints.txt > build/constraints.txt
	@$(TOOLS)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "editables", sep="\n")' > build/requires.in
	$(COMPILE) -o build/requirements.lock
	$(COMPILE) --extra als --extra index --extra dev --extra docs -o build/$(LOCK)
	$(COMPILE) --extra cluster --extra index -o build/requirements-cluster.lock
	@for one in requirements.lock $(LOCK) requirements-cluster.lock; do \
		(echo "# For Python 3.11 on Linux x86-64, with torch's CPU build. Made from constraints.txt by: make lock"; cat build/$$one) > $$one; done

COMPILE = $(TOOLS)/bin/uv pip compile --quiet --upgrade pyproject.toml build/requires.in --constraint build/constraints.txt \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	--no-header --no-annotate --no-emit-find-links --no-strip-extras $(LOCK_OPTIONS)

sbom: $(TOOLS)/bin/uv
	$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json

$(TOOLS)/bin/uv: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet uv==0.13.9 cyclonedx-bom==7.5.0
	@touch $@

clean:
	rm -rf $(VENV) data_lake/demo build
