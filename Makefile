# The graph of the whole replication. A target is a record (JSON) that its notebook writes last; see `make help`.

PROFILE ?= offline
TASKS ?= sst2 qqp mnli
SEEDS ?= 0
TEACHER_SEED ?= 0
export GLUE_DIR

SHELL := /bin/sh
# Steps side by side, each with its share of the cores: on small batches two steps with half the threads get a fifth more done
# than one after the other with all of them. A GPU is for one step at a time. Every record says its threads under
# `device`: students are the same to the bit with any number of threads, teachers are not, as on another machine.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
JOBS ?= $(if $(wildcard /dev/nvidia0)$(filter 1,$(CORES)),1,2)
# What a user gives goes into a shell's single quotes, and must match as a whole: a line feed is no way around it.
define LINE_FEED


endef
matches = $(if $(findstring $(LINE_FEED),$(1)),,$(shell printf '%s' '$(subst ','"'"',$(1))' | grep -Eqx '$(2)' && echo ok))
ifneq ($(call matches,$(JOBS),[1-9][0-9]*),ok)
$(error JOBS is '$(JOBS)': give the number of steps that may run side by side, as in JOBS=2)
endif
ifneq ($(filter 1,$(JOBS))$(filter-out 0 1,$(words $(MAKECMDGOALS))),)
.NOTPARALLEL:
else
MAKEFLAGS += -j$(JOBS)
SHARE := OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),$(shell echo $$(( ($(CORES) + $(JOBS) - 1) / $(JOBS) )))) DISTIL_LINES=1
endif
.DEFAULT_GOAL := help
# No .DELETE_ON_ERROR: records are written atomically, and a failed run must not delete the one that is in git.

# --- what may be asked for ---------------------------------------------------------------------------------------------

# The paper's, then the user's own: one "name: {...}" a line (a test checks that Make and Python read the same names).
OWN_TASKS := $(shell sed -n 's/^\([a-z][a-z0-9-]*\): .*/\1/p' configs/tasks.yaml)
KNOWN_TASKS := sst2 qqp mnli $(OWN_TASKS)
KNOWN_PROFILES := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard configs/*/data.yaml)))))
ifneq ($(filter-out $(KNOWN_PROFILES),$(PROFILE))$(filter-out 1,$(words $(PROFILE))),)
$(error unknown PROFILE '$(PROFILE)': known are $(KNOWN_PROFILES))
endif
ifneq ($(filter-out $(KNOWN_TASKS),$(TASKS))$(filter 0,$(words $(TASKS))),)
$(error unknown TASKS '$(TASKS)': known are $(KNOWN_TASKS))
endif
NUMBER := (0|[1-9][0-9]*)
ifneq ($(call matches,$(SEEDS), *$(NUMBER)( +$(NUMBER))* *),ok)
$(error SEEDS is '$(SEEDS)': give whole numbers without leading zeros, as in SEEDS="0 1 2")
endif
ifneq ($(call matches,$(TEACHER_SEED),$(NUMBER)),ok)
$(error TEACHER_SEED is '$(TEACHER_SEED)': give one whole number, as in TEACHER_SEED=0)
endif

# The arms of the profile, as name:task:stage, its seeds and the arms of `make reproduce`, read from lines of ablation.yaml
# whose form a test checks. An arm has a teacher, a transfer set and students of its own from its stage on.
ABLATION := configs/$(PROFILE)/ablation.yaml
ARMS := $(shell sed -n 's/^  \([a-z0-9-]*\): {task: \([a-z0-9-]*\), \([a-z_]*\): {.*/\1:\2:\3/p' $(ABLATION))
QUICK := $(shell sed -n 's/^quick: \[\(.*\)\].*/\1/p' $(ABLATION) | tr -d ,)
ABLATION_SEEDS := $(shell sed -n 's/^seeds: \[\(.*\)\].*/\1/p' $(ABLATION) | tr -d ,)

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
STEP := $(SHARE) $(PY) -m distil.steps
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
	  [ -e "$(VENV)" ] || new=yes; \
	  "$$found" -m venv "$(VENV)" || { [ -z "$$new" ] || rm -rf "$(VENV)"; \
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

# A file that says what something was when it was last looked at, and is written when that has changed: what Make could not see
# by the time of a file. $(1) the file, $(2) a command that prints what it should say; the first time it is dated back.
remember = $(shell now=$$($(2)); mkdir -p '$(dir $(1))'; \
  if [ ! -e '$(1)' ]; then printf '%s\n' "$$now" > '$(1)'; touch -t 200001010000 '$(1)'; \
  elif [ "$$(cat '$(1)')" != "$$now" ]; then printf '%s\n' "$$now" > '$(1)'; fi)
quoted = '$(subst ','"'"',$(1))'

# The user's own files, where the profile reads a folder: by what is in them, since another folder's may be older.
FOLDER_sst2 := SST-2
FOLDER_qqp := QQP
FOLDER_mnli := MNLI
SOURCE := $(shell sed -n 's/^source: *"*\([^"\#]*[^"\# ]\).*/\1/p' $(CONFIG)/data.yaml)
FOLDER := $(if $(filter hub,$(SOURCE)),$(GLUE_DIR),$(if $(filter toy packages,$(SOURCE)),,$(SOURCE)))
files = $(if $(FOLDER),$(if $(filter $(1),$(TASKS)),$(ARTIFACTS)/$(PROFILE)/.files-$(1)))
$(foreach t,$(TASKS),$(if $(FOLDER),$(call remember,$(call files,$(t)),cd $(call quoted,$(FOLDER))/$(or $(FOLDER_$(t)),$(t)) && cksum *.tsv)))

# Students are called by their own seed alone, so another TEACHER_SEED must be seen to be one.
TAUGHT_BY := $(ARTIFACTS)/$(PROFILE)/.teacher-seed
TAUGHT_BY := $(if $(wildcard $(TAUGHT_BY))$(filter-out 0,$(TEACHER_SEED)),$(TAUGHT_BY))
ifneq ($(TAUGHT_BY),)
$(if $(wildcard $(TAUGHT_BY)),,$(call remember,$(TAUGHT_BY),echo 0))$(call remember,$(TAUGHT_BY),echo $(TEACHER_SEED))
endif

data = $(RESULTS)/data/$(PROFILE)/$(1).json
run = $(RESULTS)/runs/$(PROFILE)/$(1)/$(2)-seed$(3).json
# $(1) an arm as name:task:stage
name = $(word 1,$(subst :, ,$(1)))
task = $(word 2,$(subst :, ,$(1)))
stage = $(word 3,$(subst :, ,$(1)))
arm = $(RESULTS)/ablation/$(PROFILE)/$(call task,$(1))/$(call name,$(1))
arm_run = $(call arm,$(1))-seed$(2).json
teacher = $(call run,$(1),teacher,$(TEACHER_SEED))
transfer = $(call run,$(1),transfer-set,$(TEACHER_SEED))
arm_teacher = $(if $(filter teacher,$(call stage,$(1))),$(call arm,$(1))-teacher-seed$(TEACHER_SEED).json,$(call teacher,$(call task,$(1))))
arm_transfer = $(if $(filter student,$(call stage,$(1))),$(call transfer,$(call task,$(1))),$(call arm,$(1))-transfer-set-seed$(TEACHER_SEED).json)

# The modules that each notebook imports, directly or not (a test compares these with the imports).
module = $(patsubst %,distil/%.py,$(1))
USES_01 := $(call module,config data metrics packaged packages paths perceptron records tasks words)
USES_02 := $(call module,augment batching config data diagrams fastbert metrics packaged packages paths perceptron pretrained ranks records sealed tasks teacher vocabulary words workers)
USES_03 := $(call module,augment batching chapter config data diagrams fastbert metrics packaged packages paths perceptron pretrained ranks records sealed tasks teacher transfer vocabulary words workers)
USES_04 := $(call module,augment batching chapter config data diagrams embeddings metrics optim packaged packages paths perceptron pretrained ranks records sealed student tasks train transfer vocabulary word2vec words workers)
USES_05 := $(call module,batching config data elmo embeddings fast metrics packaged packages paths perceptron pretrained ranks records sealed student tasks vocabulary word2vec words)
USES_06 := $(call module,claims config figures metrics paths records report speeds tasks)
USES_07 := $(call module,claims config figures metrics paths records report speeds tasks)
USES_readme := $(call module,config figures metrics paths readme records report speeds tasks)

NEEDS_01 := notebooks/01_data.ipynb $(CONFIG)/data.yaml $(USES_01) $(CLONE)
NEEDS_02 := notebooks/02_teacher.ipynb $(CONFIG)/teacher.yaml $(USES_02) $(CLONE)
NEEDS_03 := notebooks/03_transfer_set.ipynb $(CONFIG)/transfer_set.yaml $(USES_03) $(CLONE)
NEEDS_04 := notebooks/04_student.ipynb $(CONFIG)/student.yaml $(USES_04) $(CLONE)
NEEDS_05 := notebooks/05_speed.ipynb $(CONFIG)/speed.yaml $(USES_05) $(CLONE)

# --- the graph ---------------------------------------------------------------------------------------------------------

# $(1) task
define task_rules
$(call data,$(1)): $(NEEDS_01) $(call files,$(1)) $(if $(filter $(1),$(OWN_TASKS)),configs/tasks.yaml) | $(ENV)
	@$(STEP) 01_data --profile $(PROFILE) --task $(1)

$(call teacher,$(1)): $(call data,$(1)) $(NEEDS_02) | $(ENV)
	@$(STEP) 02_teacher --profile $(PROFILE) --task $(1) --seed $(TEACHER_SEED)

$(call transfer,$(1)): $(call teacher,$(1)) $(NEEDS_03) | $(ENV)
	@$(STEP) 03_transfer_set --profile $(PROFILE) --task $(1) --seed $(TEACHER_SEED)
endef

# Side by side, the long chains of teacher, transfer set and distilled student go first, of all tasks; then the rest fills their gaps.
AFTER = $(if $(filter reproduce ablation,$(MAKECMDGOALS)),$(foreach t,$(TASKS),$(call transfer,$(t))))

# $(1) task, $(2) seed
define student_rules
$(call run,$(1),student-baseline,$(2)): $(call data,$(1)) $(NEEDS_04) | $(ENV) $(AFTER)
	@$(STEP) 04_student --profile $(PROFILE) --task $(1) --role student-baseline --seed $(2) --teacher-seed $(TEACHER_SEED)

$(call run,$(1),student-distilled,$(2)): $(call transfer,$(1)) $(NEEDS_04) $(TAUGHT_BY) | $(ENV)
	@$(STEP) 04_student --profile $(PROFILE) --task $(1) --role student-distilled --seed $(2) --teacher-seed $(TEACHER_SEED)
endef

# $(1) an arm whose stage is teacher
define arm_teacher_rule
$(call arm_teacher,$(1)): $(call data,$(call task,$(1))) $(ABLATION) $(NEEDS_02) | $(ENV)
	@$(STEP) 02_teacher --profile $(PROFILE) --task $(call task,$(1)) --arm $(call name,$(1)) --seed $(TEACHER_SEED)
endef

# $(1) an arm whose stage is teacher or transfer_set
define arm_transfer_rule
$(call arm_transfer,$(1)): $(call arm_teacher,$(1)) $(ABLATION) $(NEEDS_03) | $(ENV)
	@$(STEP) 03_transfer_set --profile $(PROFILE) --task $(call task,$(1)) --arm $(call name,$(1)) --seed $(TEACHER_SEED)
endef

# $(1) an arm, $(2) seed
define arm_rule
$(call arm_run,$(1),$(2)): $(call arm_transfer,$(1)) $(ABLATION) $(NEEDS_04) $(TAUGHT_BY) | $(ENV) $(AFTER)
	@$(STEP) 04_student --profile $(PROFILE) --task $(call task,$(1)) --arm $(call name,$(1)) --seed $(2) --teacher-seed $(TEACHER_SEED)
endef

of_stage = $(foreach a,$(ARMS),$(if $(filter $(1),$(call stage,$(a))),$(a)))
$(foreach t,$(KNOWN_TASKS),$(eval $(call task_rules,$(t))))
$(foreach t,$(KNOWN_TASKS),$(foreach s,$(sort $(SEEDS) $(ABLATION_SEEDS)),$(eval $(call student_rules,$(t),$(s)))))
$(foreach a,$(call of_stage,teacher),$(eval $(call arm_teacher_rule,$(a))))
$(foreach a,$(call of_stage,teacher transfer_set),$(eval $(call arm_transfer_rule,$(a))))
$(foreach a,$(ARMS),$(foreach s,$(ABLATION_SEEDS),$(eval $(call arm_rule,$(a),$(s)))))

STUDENTS := $(foreach r,distilled baseline,$(foreach t,$(TASKS),$(foreach s,$(SEEDS),$(call run,$(t),student-$(r),$(s)))))
TABLE_1 := $(foreach t,$(TASKS),$(call data,$(t)) $(call teacher,$(t)) $(call transfer,$(t))) $(STUDENTS)
TASK_ARMS := $(foreach a,$(ARMS),$(if $(filter $(call task,$(a)),$(TASKS)),$(a)))
QUICK_RUNS := $(foreach a,$(TASK_ARMS),$(if $(filter $(call name,$(a)),$(QUICK)),$(call arm_run,$(a),$(firstword $(ABLATION_SEEDS)))))
ARM_RUNS := $(foreach a,$(TASK_ARMS),$(foreach s,$(ABLATION_SEEDS),$(call arm_run,$(a),$(s))))
FULL_RUNS := $(foreach r,distilled baseline,$(foreach t,$(sort $(foreach a,$(TASK_ARMS),$(call task,$(a)))),$(foreach s,$(ABLATION_SEEDS),$(call run,$(t),student-$(r),$(s)))))
# Table 2 times models on the sentences of SST-2, so it needs that task among TASKS.
SPEED := $(if $(filter sst2,$(TASKS)),$(RESULTS)/speed/$(PROFILE).json)
ABLATED := $(strip $(QUICK_RUNS) $(if $(filter ablation,$(MAKECMDGOALS)),$(ARM_RUNS) $(FULL_RUNS)))
RECORDS := $(TABLE_1) $(ABLATED) $(SPEED)

# It also checks the answers of the trained student's fast forms.
# Last and with all threads: what runs beside it would be timed too.
$(RESULTS)/speed/$(PROFILE).json: $(call data,sst2) $(call run,sst2,student-distilled,$(firstword $(SEEDS))) $(NEEDS_05) | $(ENV) $(TABLE_1) $(ABLATED)
	@$(PY) -m distil.steps 05_speed --profile $(PROFILE) --seed $(firstword $(SEEDS))

$(PAGES)/06_results.ipynb: $(RECORDS) $(RESULTS)/paper.json notebooks/06_results.ipynb $(USES_06) | $(ENV)
	@$(STEP) 06_results --profile $(PROFILE)

$(PAGES)/07_ablation.ipynb: $(TABLE_1) $(ABLATED) $(RESULTS)/paper.json notebooks/07_ablation.ipynb $(USES_07) | $(ENV) $(SPEED)
	@$(STEP) 07_ablation --profile $(PROFILE)

README := $(ARTIFACTS)/$(PROFILE)/.readme
$(README): $(RECORDS) $(RESULTS)/paper.json $(USES_readme) | $(ENV)
	@echo "== README  the table of results"
	@$(PY) -m distil.readme
	@mkdir -p $(dir $@) && touch $@

$(CLONE):
	@mkdir -p $(dir $@) && touch $@

# --- what to type ------------------------------------------------------------------------------------------------------

.PHONY: help env reproduce ablation plan submission release smoke test verify torture drift bench site lint lab trust clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=$(PROFILE)  one of: $(KNOWN_PROFILES)"
	@echo "  TASKS=\"$(TASKS)\"  some of: $(KNOWN_TASKS)"
	@echo "  SEEDS=\"$(SEEDS)\"  seeds of the students; TEACHER_SEED=$(TEACHER_SEED) is the seed of teacher and transfer set"
	@echo "  JOBS=$(JOBS)  steps that run side by side; they share the cores"
	@echo "  GLUE_DIR=$$GLUE_DIR  folder with SST-2/, QQP/, MNLI/ for the profiles glue and paper, instead of the hub"

env: $(ENV) ## make .venv from pinned versions, or fill the active conda environment

SHOWN := $(PAGES)/06_results.ipynb $(if $(ABLATED),$(PAGES)/07_ablation.ipynb) $(if $(filter offline glue,$(PROFILE)),$(if $(filter results,$(RESULTS)),$(README)))
reproduce: $(RECORDS) $(SHOWN) ## run what is missing or outdated, for PROFILE, TASKS and SEEDS
	@echo "Records of '$(PROFILE)' are complete: see $(PAGES)/06_results.ipynb"

ablation: $(RECORDS) $(SHOWN) ## reproduce, then every arm of the profile's ablation.yaml with all its seeds
	@echo "The ablation of '$(PROFILE)' is complete: see $(PAGES)/07_ablation.ipynb"

plan: $(ENV) ## print every step of PROFILE with its inputs, sizes and an estimate of time and memory; runs nothing
	@$(PY) -m distil.plan --profile $(PROFILE) --tasks $(TASKS) --seeds $(SEEDS) --teacher-seed $(TEACHER_SEED) --arms quick

submission: $(ENV) ## write the files that the GLUE server wants, from the distilled students of PROFILE (PARTIAL=1 fills gaps)
	@$(PY) -m distil.submission --profile $(PROFILE) --seed $(firstword $(SEEDS)) $(if $(PARTIAL),--partial)

release: $(ENV) ## the best distilled student of PROFILE and the first of TASKS as a small folder with a model card
	@HF_DATASETS_DISABLE_PROGRESS_BARS=1 $(PY) -m distil.release --profile $(PROFILE) --task $(firstword $(TASKS))

smoke: ## run every notebook on the toy set: under three minutes
	@$(MAKE) --no-print-directory reproduce PROFILE=smoke TASKS="sst2 qqp mnli" SEEDS=0 TEACHER_SEED=0

# The notebooks run at their defaults (the toy set), 01 to 05 in a folder of their own; 06 and 07 must show what they keep.
TRIAL := $(CURDIR)/artifacts/test
test: lint ## lint, unit tests, and all notebooks by nbval
	$(PY) -m pytest tests
	@rm -rf "$(TRIAL)"
	TQDM_DISABLE=1 DISTIL_ARTIFACTS="$(TRIAL)" DISTIL_RESULTS="$(TRIAL)/results" $(PY) -m pytest --nbval-lax --nbval-current-env \
	  $(foreach n,01_data 02_teacher 03_transfer_set 04_student 05_speed,notebooks/$(n).ipynb)
	TQDM_DISABLE=1 $(PY) -m pytest --nbval --nbval-current-env notebooks/06_results.ipynb notebooks/07_ablation.ipynb

# One small committed run, the plain movie student, from the download on, beside everything that is there.
VERIFIED := artifacts/verify
verify: $(ENV) ## make a committed run again and say whether it matches, or by how much not
	@rm -rf "$(VERIFIED)"
	@DISTIL_ARTIFACTS="$(VERIFIED)" DISTIL_RESULTS="$(VERIFIED)/results" DISTIL_PACKAGES="$(or $(DISTIL_PACKAGES),artifacts/packages)" \
	  $(MAKE) --no-print-directory "$(VERIFIED)/results/runs/offline/sst2/student-baseline-seed0.json" PROFILE=offline TASKS=sst2 SEEDS=0
	@$(PY) tests/verify.py "$(VERIFIED)/results"

torture: $(ENV) ## kill smoke runs at random moments, and compare what becomes of them with one left alone
	$(PY) tests/reliability/torture.py

drift: $(ENV) ## the tests with the newest versions of everything, and which package broke what
	$(PY) tests/drift.py

bench: $(ENV) ## throughput of each stage against a plain reference, in one run: results/bench.json
	$(PY) tests/bench.py

site: $(ENV) ## the executed notebooks, README and the method as static pages: artifacts/site
	@$(PY) -m distil.website

lint: $(ENV) ## check style, notebooks too
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

# Markdown opens as a page and not as its source, in this environment.
LAB_SETTINGS := $(BIN)/../share/jupyter/lab/settings
lab: $(ENV) ## open the notebooks in JupyterLab, at the list of chapters
	@mkdir -p "$(LAB_SETTINGS)"
	@echo '{"@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}}}' > "$(LAB_SETTINGS)/overrides.json"
	JUPYTER_PREFER_ENV_PATH=1 $(PY) -m jupyterlab --notebook-dir=notebooks --LabApp.default_url=/lab/tree/README.md

# All get the same time, so that no record is older than what it was made from.
trust: ## take the records of a clone as they are, so that `make reproduce` only renders the report
	@mkdir -p $(ARTIFACTS) && touch -t 200001010000 $(CLONE)
	@touch $(ARTIFACTS)/.trusted
	@touch -c -r $(ARTIFACTS)/.trusted $(foreach p,data/*/* runs/*/*/* ablation/*/*/* speed/*,$(wildcard $(RESULTS)/$(p).json))
	@echo "The committed records count as fresh. 'make clean' takes this back."

# In a DISTIL_ARTIFACTS of the user's only what has a name of ours inside a profile's folder; models there stay too.
MADE := $(KNOWN_TASKS) executed failed release submission .readme .teacher-seed $(addprefix .files-,$(KNOWN_TASKS))
clean: ## remove what a rule makes again (prepared data, weights, downloads); records and .venv stay
	rm -rf $(foreach p,$(foreach k,$(KNOWN_PROFILES),$(addprefix $(k)/,$(MADE))) .clone .trusted,"$(ARTIFACTS)/$(p)")
	rm -rf $(foreach p,models packages site test verify drift,"artifacts/$(p)")
	rm -rf results/*/smoke results/speed/smoke.json .pytest_cache .ruff_cache .hypothesis
	find distil notebooks $(wildcard tests) \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
