# The door to everything: `make help` lists what to type. The graph itself is distil/run.py.

PROFILE ?= offline
TASKS ?= sst2 qqp mnli
SEEDS ?= 0
JOBS ?= 0
export GLUE_DIR DATA TEXT LABEL TASKS

# An active conda environment is used as it is; otherwise .venv is made by PYTHON (any Python 3.11 to 3.13).
# PINS=/dev/null installs the newest versions that pyproject.toml allows.
PYTHON ?=
PINS ?= constraints.txt
ifneq ($(filter-out base,$(and $(CONDA_PREFIX),$(CONDA_DEFAULT_ENV))),)
  BIN := $(CONDA_PREFIX)/bin
  ENV := artifacts/.conda-$(notdir $(CONDA_DEFAULT_ENV))
else
  BIN := .venv/bin
  ENV := .venv/.distil-installed
endif
PY := "$(BIN)/python"
GOOD := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
RUN = $(PY) -m distil.run $(1) --profile '$(PROFILE)' --tasks '$(TASKS)' --seeds '$(SEEDS)' --jobs '$(JOBS)'

.DEFAULT_GOAL := help
.PHONY: help env reproduce ablation plan smoke test lint lab verify submission release site bench gpu torture clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=$(PROFILE)        a file of configs/: $(filter-out tasks,$(basename $(notdir $(wildcard configs/*.yaml))))"
	@echo "  TASKS=\"$(TASKS)\"  tasks of configs/tasks.yaml"
	@echo "  SEEDS=\"$(SEEDS)\"            seeds of the students"
	@echo "  JOBS=$(JOBS)               steps side by side; 0 chooses"
	@echo "  GLUE_DIR=$(GLUE_DIR)            folder with SST-2/, QQP/, MNLI/ instead of the hub"
	@echo "  DATA=file TEXT=column LABEL=column  your own task, which TASKS names; see docs/own-task.md"

# uv installs if it is there, unless pip is told of a mirror, a proxy, a certificate or a folder: uv would not ask pip.
$(ENV): pyproject.toml constraints.txt
	@for p in "$(PYTHON)" python3.11 python3.12 python3.13 python3 python; do \
	  [ -x $(PY) ] && break; \
	  [ -n "$$p" ] && "$$p" -c '$(GOOD)' 2>/dev/null || continue; \
	  echo "== environment  .venv, made by $$p"; \
	  "$$p" -m venv .venv || { rm -rf .venv; \
	    echo "error: '$$p -m venv' failed; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }; \
	done
	@[ -x $(PY) ] || { echo "error: no Python 3.11 to 3.13 found; name one: make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PY) -c '$(GOOD)' || { echo "error: $(BIN)/python is not Python 3.11, 3.12 or 3.13" >&2; exit 1; }
	@echo "== environment  installing the packages of $(PINS) (one to three minutes)"
	@if ! command -v uv >/dev/null || $(PY) -m pip config list | grep -qE 'index|links|proxy|cert|host'; \
	  then $(PY) -m pip install --quiet -c $(PINS) -e '.[dev]'; \
	  else uv pip install --quiet --python $(PY) -c $(PINS) -e '.[dev]'; fi
	@mkdir -p $(dir $@) && touch $@

env: $(ENV) ## make .venv from pinned versions, or fill the active conda environment

reproduce: $(ENV) ## run what is missing or outdated, for PROFILE, TASKS and SEEDS
	@$(call RUN,reproduce)
	@$(if $(filter own,$(PROFILE)),set -e; for t in $(TASKS); do $(PY) tools/release.py --profile own --task $$t; done)

ablation: $(ENV) ## reproduce, then every arm of the profile with all its seeds
	@$(call RUN,reproduce) --ablation

plan: $(ENV) ## say which steps of PROFILE would run, and why; runs nothing
	@$(call RUN,plan)

smoke: ## run every chapter on the toy set: about three minutes
	@$(MAKE) --no-print-directory reproduce PROFILE=smoke

# Copies of chapters 01 to 05 run with the toy set in a folder of their own; 06 and 07 must show what they keep.
TRIAL := $(CURDIR)/artifacts/test
test: lint ## lint, unit tests, and every chapter by nbval
	OMP_NUM_THREADS=1 $(PY) -m pytest tests
	@rm -rf "$(TRIAL)" && mkdir -p "$(TRIAL)" && $(PY) tests/prepare.py "$(TRIAL)"
	TQDM_DISABLE=1 DISTIL_ARTIFACTS="$(TRIAL)" DISTIL_RESULTS="$(TRIAL)/results" $(PY) -m pytest --nbval-lax --nbval-current-env "$(TRIAL)"
	TQDM_DISABLE=1 $(PY) -m pytest --nbval --nbval-current-env notebooks/0[67]*.ipynb

lint: $(ENV) ## check style, notebooks too
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

lab: $(ENV) ## open the notebooks in JupyterLab
	JUPYTER_PREFER_ENV_PATH=1 $(PY) -m jupyterlab --notebook-dir=notebooks

verify: $(ENV) ## make one committed run again and say how near it comes
	@$(PY) tools/verify.py

submission: $(ENV) ## write the files that the GLUE server takes (PARTIAL=1 fills gaps)
	@$(PY) tools/submission.py --profile $(PROFILE) --seed $(firstword $(SEEDS)) $(if $(PARTIAL),--partial)

release: $(ENV) ## the best distilled student of PROFILE and the first of TASKS as a folder to give away
	@$(PY) tools/release.py --profile $(PROFILE) --task $(firstword $(TASKS))

site: $(ENV) ## README, docs, executed chapters and a student to try, as pages: artifacts/site
	@$(PY) -c 'import furo, myst_nb' 2>/dev/null || $(PY) -m pip install --quiet -c constraints.txt -e '.[site]'
	@$(PY) tools/site.py

bench: $(ENV) ## throughput of each stage against a plain reference: results/bench.json
	$(PY) tools/bench.py

gpu: $(ENV) ## try everything on a GPU, without a network: results/gpu.json (SMALL=1 on a CPU)
	$(PY) tools/gpu.py $(if $(SMALL),--small)

torture: $(ENV) ## kill smoke runs at random moments and compare with a run left alone
	$(PY) tools/torture.py

clean: ## remove what a step makes again (data, weights, downloads); records and .venv stay
	rm -rf artifacts results/*/smoke results/speed/smoke.json results/report/smoke*.json .pytest_cache .ruff_cache .hypothesis
	find distil notebooks tests tools \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
