# make help lists the targets. PROFILE=smoke|demo|two_cores|gpu|report, or the path of your own .toml file.
SHELL := /bin/bash
PROFILE ?= demo
VENV := .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
export DEBLEND_PROFILE ?= $(PROFILE)
unexport DAGSTER_HOME
# Runs and tests start many processes: without bytecode each compiles the package again.
unexport PYTHONDONTWRITEBYTECODE
RUN := $(VENV)/bin/python -m
CORES ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu); echo $$(( n < 8 ? n : 8 )))
PYTEST := $(VENV)/bin/pytest --dist loadfile --no-loadscope-reorder
# Key figures and failed checks: status 1 where a check that is an error failed.
RESULTS := $(VENV)/bin/deblend_assets results
# Of a target that was named: as a part of `make demo`, which prints all results last, it prints none.
RESULTS_OF = $(if $(filter $1,$(MAKECMDGOALS)),@$(RESULTS) $1)
RECOVER := $(RUN) deblend_assets.automation.recovery
MATERIALIZE := $(VENV)/bin/dagster asset materialize -m deblend_assets.definitions
REFERRED := group:simulation or group:normalization or key:"shapes/fisher_floor"
TARGETS := key:"worlds/report" or key:"worlds/sky_*" or key:"worlds/pairs" or key:"worlds/singles"
WORLDS := key:"simulation/galaxy_catalog" or group:worlds
TILE_FIELD := key:"simulation/galaxy_catalog" or key:"des/simulated_sky" or key:"des/im3shape_catalog" or key:"tile_fields/tile_images"
LINEAGE := group:simulation or group:normalization or group:training or group:evaluation or group:shapes

.PHONY: demo lsst des worlds tile tile-assets tile-field field field-assets baseline referee test test-slow test-all coverage lint docs bench ui help clean-env

# uv installs in a third of pip's time. Where it finds no package, as from a mirror that pip.conf alone names, pip does.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
PACKAGES := --quiet -c constraints.txt
PIP := $(VENV)/bin/pip install --disable-pip-version-check --no-compile
install = $(VENV)/bin/uv pip install --python $(VENV)/bin/python $(PACKAGES) $1 || $(PIP) $(PACKAGES) $1

# Its own environment, pinned; installed again only when the pins or the package's requirements change. Bytecode is made
# of what is imported, not of all: that takes longer than the rest of the installation.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(PACKAGES) uv || true
	$(call install,-e .)
	@touch $@

# What tests, benchmarks and documentation want beside it: clusters, an S3 server, peers, Sphinx.
$(VENV)/.test $(VENV)/.bench $(VENV)/.peers $(VENV)/.docs: $(VENV)/.%: $(VENV)/.installed
	$(call install,-e '.[$*]')
	@touch $@

# The whole lineage: simulated LSST blends, the network for every sky, a tile of the simulated survey, a simulated field.
demo: ALSO := or group:sky_shapes or $(TARGETS) or key:"fields/simulated_field"
demo: lsst des
	@$(MAKE) --no-print-directory field-assets RECOVER=: FIELD="$$($(RUN) deblend_assets.partitions simulated)"
	@$(RESULTS) demo

# The LSST model: simulation, training, shapes and their evaluation.
lsst: $(VENV)/.installed
	$(RECOVER)
	range=$$($(RUN) deblend_assets.partitions) && \
	$(MATERIALIZE) --select '$(LINEAGE) $(ALSO)' --partition-range $$range
	$(call RESULTS_OF,lsst)

# The tiles of the profile's simulated survey, with the model for every sky that is there.
des: $(VENV)/.installed
	for tile in $$($(RUN) deblend_assets.partitions tiles); do \
		$(MAKE) --no-print-directory tile-assets TILE=$$tile WITH='$(if $(ALSO),,key:"simulation/galaxy_catalog" or)' || exit 1; done
	$(call RESULTS_OF,des)

# Methods in fields as a telescope sees them: targets of test galaxies, their Fisher floor, estimates, the page worlds.
worlds: $(VENV)/.installed
	$(RECOVER)
	$(MATERIALIZE) --select '$(WORLDS)'
	@$(RESULTS) worlds

# One tile of the survey that the profile names, with the model for every sky that is there.
tile: tile-assets
	@$(RESULTS) '$(TILE)'

tile-assets: $(VENV)/.installed
	$(RECOVER)
	$(VENV)/bin/deblend_assets tiles add '$(TILE)'
	$(MATERIALIZE) --select '$(WITH) group:des' --partition '$(TILE)'

# A whole tile as a field, and its catalogue against im3shape's: make tile-field TILE=DES1200+6000; see docs/tile_fields.md.
tile-field: $(VENV)/.installed
	$(RECOVER)
	$(VENV)/bin/deblend_assets tiles add '$(TILE)'
	$(MATERIALIZE) --select '$(TILE_FIELD)' --partition '$(TILE)'
	$(MATERIALIZE) --select 'key:"fields/field_*"' --partition '$(TILE)'
	$(MATERIALIZE) --select 'key:"tile_fields/against_im3shape"' --partition '$(TILE)'
	@$(RESULTS) '$(TILE)'

# Your own images: make field FIELD=field.toml detects, measures and judges them; see docs/measuring_images.md.
field: field-assets
	@$(RESULTS) '$(FIELD)'

field-assets: $(VENV)/.installed
	$(RECOVER)
	$(VENV)/bin/deblend_assets fields add '$(FIELD)'
	$(MATERIALIZE) --select 'key:"fields/field_*"' --partition "$$($(RUN) deblend_assets.partitions field '$(FIELD)')"

# The report's own recipe on the same arrays, for comparison.
baseline: $(VENV)/.installed
	$(RECOVER)
	$(MATERIALIZE) --select 'group:baseline'
	@$(RESULTS) baseline

# Ours and the peers on the same blends and on whole fields of known shear, m and c of the surveys: what is trained here, or the shipped weights.
referee: $(VENV)/.peers
	$(RECOVER)
	range=$$($(RUN) deblend_assets.partitions) && \
	$(MATERIALIZE) --select '$(REFERRED)' --partition-range $$range
	$(MATERIALIZE) --select 'group:referee or group:field_shear'
	@$(RESULTS) referee

# Lint, types and every quick test, on all cores: at most six minutes on two.
test: lint
	$(PYTEST) -n $(CORES) -m 'not slow'

# The slow tests: kills, daemons, clusters, whole lineages. Many of them wait, so one more runs than there are cores.
test-slow: $(VENV)/.test
	$(PYTEST) -n $$(( $(CORES) + 1 )) -m slow --durations=20

# Lint, types and every test, side by side: the slow ones wait while the others compute. In a new environment all
# workers would compile the same bytecode; one collection makes it.
test-all: $(VENV)/.test
	@$(MAKE) --no-print-directory lint > $(VENV)/lint.log 2>&1 & lint=$$!; \
	$(VENV)/bin/pytest --collect-only > /dev/null; \
	$(PYTEST) -n $$(( $(CORES) + 1 )) --durations=60; tests=$$?; \
	wait $$lint; linted=$$?; cat $(VENV)/lint.log; exit $$(( tests || linted ))

# Which share of the package's lines the quick tests run, and which lines they do not.
coverage: $(VENV)/.test
	$(PYTEST) -n $(CORES) -m 'not slow' --cov --cov-report=term-missing:skip-covered

# The documentation site in build/site: pages of docs/, reference of Python and settings. Needs no network.
docs: $(VENV)/.docs
	$(RUN) sphinx -W --keep-going -q -j $(CORES) -b html -c docs/site -d build/doctrees . build/site
	@echo build/site/index.html

# Ratios against named peers, each row printed as it comes; an hour or two on two quiet cores. BENCH=--quick for a look.
bench: $(VENV)/.bench
	$(RUN) benchmarks $(BENCH)

# ruff and mypy.
lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Dagster's pages at http://127.0.0.1:3000, with the daemon that makes registered tiles.
ui: $(VENV)/.installed
	$(RECOVER)
	$(VENV)/bin/dagster dev --host 127.0.0.1

# This list.
help:
	@awk '/^# / {words = substr($$0, 3); next} \
		/^[a-z][a-z-]*:/ {split($$0, part, ":"); if (words) printf "%-11s %s\n", part[1], words} \
		{words = ""}' $(firstword $(MAKEFILE_LIST))

# Remove the environment.
clean-env:
	rm -rf $(VENV)
