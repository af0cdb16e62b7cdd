# The graph of the whole replication. A target is a record (JSON) that its notebook writes last; see `make help`.

PROFILE ?= offline
TASKS ?= sst2 qqp mnli
SEEDS ?= 0
TEACHER_SEED ?= 0
export GLUE_DIR

SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help
# No .DELETE_ON_ERROR: records are written atomically, and a failed run must not delete the one that is in git.

# --- what may be asked for ---------------------------------------------------------------------------------------------

KNOWN_TASKS := sst2 qqp mnli
KNOWN_PROFILES := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard configs/*/data.yaml)))))
ifneq ($(filter-out $(KNOWN_PROFILES),$(PROFILE))$(filter-out 1,$(words $(PROFILE))),)
$(error unknown PROFILE '$(PROFILE)': known are $(KNOWN_PROFILES))
endif
ifneq ($(filter-out $(KNOWN_TASKS),$(TASKS))$(filter 0,$(words $(TASKS))),)
$(error unknown TASKS '$(TASKS)': known are $(KNOWN_TASKS))
endif
ifneq ($(shell printf '%s' '$(subst ','"'"',$(SEEDS))' | grep -Eqx ' *[0-9]+( +[0-9]+)* *' && echo ok),ok)
$(error SEEDS is '$(SEEDS)': give whole numbers, as in SEEDS="0 1 2")
endif

# The ablation of every profile (a test compares these with configs/*/ablation.yaml).
ABLATION_TASKS := sst2
ABLATION_SEEDS := 0
ARMS := real-only hard-labels

# --- the environment ---------------------------------------------------------------------------------------------------

# An active conda environment is used as it is; otherwise .venv is made by PYTHON (any Python 3.11 or 3.12).
PYTHON ?=
VENV ?= .venv
ifneq ($(filter-out base,$(and $(CONDA_PREFIX),$(CONDA_DEFAULT_ENV))),)
  BIN := $(CONDA_PREFIX)/bin
  ENV := artifacts/.conda-$(notdir $(CONDA_DEFAULT_ENV))
else
  BIN := $(VENV)/bin
  ENV := $(VENV)/.distil-installed
endif
PY := "$(BIN)/python"
STEP := $(PY) -m distil.steps
CHECK_PYTHON := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))

$(ENV): pyproject.toml constraints.txt
	@if [ ! -x $(PY) ]; then \
	  for p in "$(PYTHON)" python3.11 python3.12 python3 python; do \
	    if [ -n "$$p" ] && "$$p" -c '$(CHECK_PYTHON)' 2>/dev/null; then found="$$p"; break; fi; \
	    if [ -n "$(PYTHON)" ]; then break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "error: no Python 3.11 or 3.12 found; install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "== environment  $(VENV), made by $$found"; \
	  "$$found" -m venv "$(VENV)" || { rm -rf "$(VENV)"; \
	    echo "error: '$$found -m venv' failed; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }; \
	fi
	@$(PY) -c '$(CHECK_PYTHON)' || { echo "error: $(BIN)/python is not Python 3.11 or 3.12" >&2; exit 1; }
	@echo "== environment  installing the pinned packages (one to three minutes; about 1 GB, more with CUDA)"
	@$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@mkdir -p $(dir $@) && touch $@

# --- records, as paths -------------------------------------------------------------------------------------------------

ARTIFACTS := $(or $(DISTIL_ARTIFACTS),artifacts)
RESULTS := $(or $(DISTIL_RESULTS),results)
CONFIG := configs/$(PROFILE)
PAGES := $(RESULTS)/executed/$(PROFILE)
# Git keeps no file times, so a clone cannot know whether its records are fresh: this file, made once and therefore younger
# than they, has them all made again. `make trust` dates it back.
CLONE := $(ARTIFACTS)/.clone

data = $(RESULTS)/data/$(PROFILE)/$(1).json
run = $(RESULTS)/runs/$(PROFILE)/$(1)/$(2)-seed$(3).json
arm = $(RESULTS)/ablation/$(PROFILE)/$(1)/$(2)-seed$(3).json
teacher = $(call run,$(1),teacher,$(TEACHER_SEED))
transfer = $(call run,$(1),transfer-set,$(TEACHER_SEED))

# The modules that each notebook imports, directly or not (a test compares these with the imports).
module = $(patsubst %,distil/%.py,$(1))
USES_01 := $(call module,config data metrics packaged packages paths records tasks words)
USES_02 := $(call module,batching config data embeddings metrics packaged packages paths records student tasks teacher words)
USES_03 := $(call module,augment batching config data embeddings metrics packaged packages paths records student tasks teacher transfer words)
USES_04 := $(call module,augment batching config data embeddings metrics packaged packages paths records student tasks train transfer words)
USES_05 := $(call module,batching config data embeddings metrics packaged packages paths records student tasks teacher words)
USES_06 := $(call module,config figures metrics paths records report tasks)
USES_07 := $(call module,config figures metrics paths records report tasks)
USES_report := $(call module,config metrics paths records report tasks)

NEEDS_01 := notebooks/01_data.ipynb $(CONFIG)/data.yaml $(USES_01) $(CLONE)
NEEDS_02 := notebooks/02_teacher.ipynb $(CONFIG)/teacher.yaml $(USES_02) $(CLONE)
NEEDS_03 := notebooks/03_transfer_set.ipynb $(CONFIG)/transfer_set.yaml $(USES_03) $(CLONE)
NEEDS_04 := notebooks/04_student.ipynb $(CONFIG)/student.yaml $(USES_04) $(CLONE)
NEEDS_05 := notebooks/05_speed.ipynb $(CONFIG)/speed.yaml $(USES_05) $(CLONE)

# --- the graph ---------------------------------------------------------------------------------------------------------

# $(1) task
define task_rules
$(call data,$(1)): $(NEEDS_01) | $(ENV)
	@$(STEP) 01_data --profile $(PROFILE) --task $(1)

$(call teacher,$(1)): $(call data,$(1)) $(NEEDS_02) | $(ENV)
	@$(STEP) 02_teacher --profile $(PROFILE) --task $(1) --seed $(TEACHER_SEED)

$(call transfer,$(1)): $(call teacher,$(1)) $(NEEDS_03) | $(ENV)
	@$(STEP) 03_transfer_set --profile $(PROFILE) --task $(1) --seed $(TEACHER_SEED)
endef

# $(1) task, $(2) seed
define student_rules
$(call run,$(1),student-baseline,$(2)): $(call data,$(1)) $(NEEDS_04) | $(ENV)
	@$(STEP) 04_student --profile $(PROFILE) --task $(1) --role student-baseline --seed $(2) --teacher-seed $(TEACHER_SEED)

$(call run,$(1),student-distilled,$(2)): $(call transfer,$(1)) $(NEEDS_04) | $(ENV)
	@$(STEP) 04_student --profile $(PROFILE) --task $(1) --role student-distilled --seed $(2) --teacher-seed $(TEACHER_SEED)
endef

# $(1) task, $(2) seed, $(3) arm
define arm_rule
$(call arm,$(1),$(3),$(2)): $(call transfer,$(1)) $(CONFIG)/ablation.yaml $(NEEDS_04) | $(ENV)
	@$(STEP) 04_student --profile $(PROFILE) --task $(1) --arm $(3) --seed $(2) --teacher-seed $(TEACHER_SEED)
endef

ARM_TASKS := $(filter $(ABLATION_TASKS),$(TASKS))
$(foreach t,$(KNOWN_TASKS),$(eval $(call task_rules,$(t))))
$(foreach t,$(KNOWN_TASKS),$(foreach s,$(SEEDS),$(eval $(call student_rules,$(t),$(s)))))
$(foreach t,$(ARM_TASKS),$(foreach s,$(ABLATION_SEEDS),$(foreach a,$(ARMS),$(eval $(call arm_rule,$(t),$(s),$(a))))))

STUDENTS := $(foreach t,$(TASKS),$(foreach s,$(SEEDS),$(foreach r,baseline distilled,$(call run,$(t),student-$(r),$(s)))))
TABLE_1 := $(foreach t,$(TASKS),$(call data,$(t)) $(call teacher,$(t)) $(call transfer,$(t))) $(STUDENTS)
ARM_RUNS := $(foreach t,$(ARM_TASKS),$(foreach s,$(ABLATION_SEEDS),$(foreach a,$(ARMS),$(call arm,$(t),$(a),$(s)))))
# Table 2 times models on the sentences of SST-2, so it needs that task among TASKS.
SPEED := $(if $(filter sst2,$(TASKS)),$(RESULTS)/speed/$(PROFILE).json)
RECORDS := $(TABLE_1) $(ARM_RUNS) $(SPEED)

$(RESULTS)/speed/$(PROFILE).json: $(call data,sst2) $(NEEDS_05) | $(ENV)
	@$(STEP) 05_speed --profile $(PROFILE)

$(PAGES)/06_results.ipynb: $(TABLE_1) $(ARM_RUNS) $(SPEED) $(RESULTS)/paper.json notebooks/06_results.ipynb $(USES_06) | $(ENV)
	@$(STEP) 06_results --profile $(PROFILE)

$(PAGES)/07_ablation.ipynb: $(TABLE_1) $(ARM_RUNS) $(RESULTS)/paper.json notebooks/07_ablation.ipynb $(USES_07) | $(ENV)
	@$(STEP) 07_ablation --profile $(PROFILE)

README := $(ARTIFACTS)/$(PROFILE)/.readme
$(README): $(RECORDS) $(RESULTS)/paper.json $(USES_report) | $(ENV)
	@echo "== README  the table of results"
	@$(PY) -m distil.report readme
	@mkdir -p $(dir $@) && touch $@

$(CLONE):
	@mkdir -p $(dir $@) && touch $@

# --- what to type ------------------------------------------------------------------------------------------------------

.PHONY: help env reproduce smoke test lint lab trust clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=$(PROFILE)  one of: $(KNOWN_PROFILES)"
	@echo "  TASKS=\"$(TASKS)\"  some of: $(KNOWN_TASKS)"
	@echo "  SEEDS=\"$(SEEDS)\"  seeds of the students; TEACHER_SEED=$(TEACHER_SEED) is the seed of teacher and transfer set"
	@echo "  GLUE_DIR=$(GLUE_DIR)  folder with SST-2/, QQP/, MNLI/ for the profiles glue and paper, instead of the hub"

env: $(ENV) ## make .venv from pinned versions, or fill the active conda environment

reproduce: $(RECORDS) $(PAGES)/06_results.ipynb $(if $(ARM_RUNS),$(PAGES)/07_ablation.ipynb) $(if $(filter offline,$(PROFILE)),$(README)) ## run what is missing or outdated, for PROFILE, TASKS and SEEDS
	@echo "Records of '$(PROFILE)' are complete: see $(PAGES)/06_results.ipynb"

smoke: ## run every notebook on the toy set, about four minutes
	@$(MAKE) --no-print-directory reproduce PROFILE=smoke TASKS="$(KNOWN_TASKS)" SEEDS=0 TEACHER_SEED=0

# The notebooks run at their defaults (the toy set), 01 to 05 in a folder of their own; 06 and 07 must show what they keep.
TRIAL := $(CURDIR)/artifacts/test
test: lint ## lint, unit tests, and all notebooks by nbval
	$(PY) -m pytest tests
	@rm -rf "$(TRIAL)"
	TQDM_DISABLE=1 DISTIL_ARTIFACTS="$(TRIAL)" DISTIL_RESULTS="$(TRIAL)/results" $(PY) -m pytest --nbval-lax --nbval-current-env \
	  $(foreach n,01_data 02_teacher 03_transfer_set 04_student 05_speed,notebooks/$(n).ipynb)
	TQDM_DISABLE=1 $(PY) -m pytest --nbval --nbval-current-env notebooks/06_results.ipynb notebooks/07_ablation.ipynb

lint: $(ENV) ## check style, notebooks too
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

lab: $(ENV) ## open the notebooks in JupyterLab
	JUPYTER_PREFER_ENV_PATH=1 $(PY) -m jupyterlab --notebook-dir=notebooks

# In the order of the graph, so that no record is older than what it was made from.
trust: ## take the records of a clone as they are, so that `make reproduce` only renders the report
	@mkdir -p $(ARTIFACTS) && touch -t 200001010000 $(CLONE)
	@touch -c $(foreach p,data/*/* runs/*/*/teacher-* runs/*/*/transfer-set-* runs/*/*/student-* ablation/*/*/* speed/*,$(wildcard $(RESULTS)/$(p).json))
	@echo "The committed records count as fresh. 'make clean' takes this back."

clean: ## remove what a rule makes again (prepared data, weights, downloads); records and .venv stay
	rm -rf $(ARTIFACTS) results/*/smoke results/speed/smoke.json .pytest_cache .ruff_cache .hypothesis
	find distil tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
