# L3-Net, AVE-Net, AVOL-Net in TensorFlow 2. `make help` lists what there is.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := help

PYTHON ?= python3
# One environment per Python version, built once and reused.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= .venv/$(PYTHON_VERSION)
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
READY := $(VENV)/.ready

.PHONY: help
help:  ## List every target
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
	  while IFS=$$'\t' read -r name text; do printf '  %-22s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(READY)  ## Make the virtual environment with the tested set of packages (PYTHON=python3.11)

$(READY): setup.cfg pyproject.toml tests/constraints.txt
	@test -n "$(PYTHON_VERSION)" || { echo "error: $(PYTHON) does not run; name one with make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: got Python $(PYTHON_VERSION); need 3.10 to 3.13: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@echo "Installing the tested set of packages into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[test]'
	@touch $@

.PHONY: test
test: $(READY)  ## Run the tests (under 6 minutes on two cores)
	$(BIN)/python -m pytest

.PHONY: test-slow
test-slow: $(READY)  ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow -n 0

.PHONY: lint
lint: $(READY)  ## Check style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# --- The demo data set and the networks trained on it ---------------------------------------------
# make train-demo SEED=1 trains with another seed, into runs/seed1; tables of several: SEEDS=0,1,2.
SEED ?= 0
SEEDS ?= 0
comma := ,
empty :=
space := $(empty) $(empty)
DEMO := data/demo
RUNS := $(if $(filter 0,$(SEED)),runs,runs/seed$(SEED))
# Fewer train in less time (DEMO_NETWORKS="..."); the tables then say "not run" of the others.
DEMO_NETWORKS := supervised_vision supervised_audio supervised_pretraining l3_net ave_net ave_net_naive ave_net_l3 ave_net_mf ave_net_of avol_net
DEMO_L3 := $(RUNS)/demo_l3_net
DEMO_AVOL := $(RUNS)/demo_avol_net
DEMO_TABLES := avc_accuracy table2 table3 table4 retrieval localization
# Notes how long each step took; `make reproduce-all` tells.
TIMES := runs/times.tsv
TIMED = $(RUN) eval.reporting.times --log=$(TIMES) --name=$(patsubst %/.made,%,$@) -- $(RUN)
joined = $(subst $(space),$(comma),$(strip $(1)))
saved_models = $(call joined,$(1:%=%/saved_model))

$(DEMO)/videos/.made: $(READY) data_prep/demo.py data_prep/demo_data/sounds.py data_prep/demo_data/scenes.py
	$(TIMED) data_prep.demo --out_dir=$(DEMO)/videos
	@touch $@

$(DEMO)/shards/.made: $(DEMO)/videos/.made
	$(TIMED) data_prep.write_shards --manifest=$(DEMO)/videos/manifest.csv \
	  --videos_dir=$(DEMO)/videos --out_dir=$(DEMO)/shards --dataset_name=demo
	@touch $@

# The same clips with optical flow, small: TV-L1 costs more than all else.
$(DEMO)/flow_shards/.made: $(DEMO)/videos/.made
	$(TIMED) data_prep.write_shards --manifest=$(DEMO)/videos/manifest.csv \
	  --videos_dir=$(DEMO)/videos --out_dir=$(DEMO)/flow_shards --dataset_name=demo \
	  --flow_smallest_side_px=64
	@touch $@

$(RUNS)/demo_%/.made: $(DEMO)/shards/.made l3net/configs/demo_%.flags l3net/configs/demo_common.flags l3net/configs/common.flags
	$(TIMED) l3net.train --flagfile=l3net/configs/demo_$*.flags --run_dir=$(@D) --seed=$(SEED) \
	  $(if $(filter supervised_pretraining,$*),--init_from=$(RUNS)/demo_supervised_vision$(comma)$(RUNS)/demo_supervised_audio)
	$(RUN) l3net.export --run_dir=$(@D)
	$(if $(filter l3_net,$*),$(RUN) l3net.export --run_dir=$(@D) --random_weights --seed=$(SEED))
	@touch $@

$(RUNS)/demo_ave_net_of/.made: $(DEMO)/flow_shards/.made
$(RUNS)/demo_supervised_pretraining/.made: $(RUNS)/demo_supervised_vision/.made $(RUNS)/demo_supervised_audio/.made
.SECONDARY:

.PHONY: demo-data
demo-data: $(DEMO)/shards/.made  ## Make the embedded demo data set and prepare it

.PHONY: train-demo
train-demo: $(RUNS)/demo/avc_accuracy.json $(RUNS)/demo/learning_curves.json  ## Train and export every network on the demo data (an hour on two cores), print their table (SEED=)
	@cat $(RUNS)/demo/avc_accuracy.md

# --- Tables on the demo data ----------------------------------------------------------------------
$(RUNS)/demo/learning_curves.json: $(DEMO_NETWORKS:%=$(RUNS)/demo_%/.made)
	$(TIMED) eval.reporting.curves --runs=$(call joined,$(DEMO_NETWORKS:%=$(RUNS)/demo_%)) \
	  --out_dir=$(@D)

$(RUNS)/demo/avc_accuracy.json: $(DEMO_NETWORKS:%=$(RUNS)/demo_%/.made)
	$(TIMED) eval.avc_accuracy --shards=$(DEMO)/shards --flow_shards=$(DEMO)/flow_shards \
	  --saved_models=$(call saved_models,$(DEMO_NETWORKS:%=$(RUNS)/demo_%)) \
	  --sampling=ots --num_pairs=2016 --out_dir=$(@D)

# What is really seen and heard is in clips.csv; the labels that training may see say less.
TABLE_OF_DEMO_L3 = --saved_model=$(DEMO_L3)/saved_model \
  --random_saved_model=$(DEMO_L3)/saved_model_random --demo_shards=$(DEMO)/shards \
  --demo_clips=$(DEMO)/videos/clips.csv

$(RUNS)/demo/table2.json: $(DEMO_L3)/.made
	$(TIMED) eval.table2_sound $(TABLE_OF_DEMO_L3) --piczak=small --piczak_epochs=10 --out_dir=$(@D)

$(RUNS)/demo/table3.json: $(DEMO_L3)/.made
	$(TIMED) eval.table3_imagenet $(TABLE_OF_DEMO_L3) --epochs=12 --batch_size=32 --out_dir=$(@D)

$(RUNS)/demo/table4.json: $(DEMO_L3)/.made
	$(TIMED) eval.table4_nmi $(TABLE_OF_DEMO_L3) --num_clusters=14 --out_dir=$(@D)

RETRIEVAL_DEMO := $(patsubst %,$(RUNS)/demo_%,$(filter l3_net ave_net ave_net_naive ave_net_mf ave_net_of,$(DEMO_NETWORKS)))
$(RUNS)/demo/retrieval.json: $(RETRIEVAL_DEMO:%=%/.made)
	$(TIMED) eval.retrieval --saved_models=$(call saved_models,$(RETRIEVAL_DEMO)) \
	  --demo_shards=$(DEMO)/shards --demo_clips=$(DEMO)/videos/clips.csv \
	  --flow_shards=$(DEMO)/flow_shards $(if $(VGG16_WEIGHTS),--vgg16_weights='$(VGG16_WEIGHTS)') \
	  --out_dir=$(@D)

$(RUNS)/demo/localization.json: $(DEMO_AVOL)/.made
	$(TIMED) eval.localization --saved_model=$(DEMO_AVOL)/saved_model \
	  --demo_shards=$(DEMO)/shards --demo_boxes=$(DEMO)/videos/boxes.csv --out_dir=$(@D)

.PHONY: demo-tables
demo-tables: $(DEMO_TABLES:%=$(RUNS)/demo/%.json) $(RUNS)/demo/learning_curves.json

# Every table of every seed, the first seed's first.
EACH_SEED := $(subst $(comma), ,$(SEEDS))
runs_of = $(if $(filter 0,$(1)),runs,runs/seed$(1))
TABLES_OF_SEEDS := $(foreach seed,$(EACH_SEED),$(DEMO_TABLES:%=$(call runs_of,$(seed))/demo/%.json))

.PHONY: reproduce-all
reproduce-all: $(READY)  ## Every table of both papers on the demo data (90 minutes on two cores; SEEDS=0,1,2 for mean and spread)
	@rm -f $(TIMES)
	@for seed in $(EACH_SEED); do $(MAKE) --no-print-directory demo-tables SEED=$$seed || exit 1; done
	@for seed in $(EACH_SEED); do cat $(patsubst %,$$([ $$seed = 0 ] && echo runs || echo runs/seed$$seed)/demo/%.md,$(DEMO_TABLES)); done
	$(if $(word 2,$(EACH_SEED)),$(RUN) eval.reporting.seeds --seeds=$(SEEDS) --out_dir=runs/demo/over_seeds $(TABLES_OF_SEEDS))
	@$(RUN) eval.reporting.times --log=$(TIMES)

.PHONY: check-claims
check-claims: $(READY)  ## Check the papers' orderings on the demo tables of SEEDS, fail if one does not hold
	@for seed in $(EACH_SEED); do $(MAKE) --no-print-directory demo-tables SEED=$$seed || exit 1; done
	@$(RUN) eval.reporting.claims --out_dir=runs/demo $(TABLES_OF_SEEDS)

# --- Tables: of your own networks and data, else those on the demo data ---------------------------
# make reproduce-table2 RUN_DIR=runs/l3_net ESC50=data/ESC-50
# make reproduce-table1 NETWORK_DIRS="runs/l3_net runs/supervised_vision" KINETICS_SOUNDS=shards/ks
RUN_DIR ?=
NETWORK_DIRS ?=
AVOL_DIR ?=
FLICKR_SOUNDNET ?=
KINETICS_SOUNDS ?=
AUDIOSET ?=
AUDIOSET_FLOW ?=
ONTOLOGY ?=
VGG16_WEIGHTS ?=
IMAGENET ?=
ESC50 ?=
ESC10 ?=
DCASE2013 ?=
BOXES ?=
BOXES_SHARDS ?=
BOXES_SPLIT ?= val
PICZAK ?= off
SOUND_SETS := $(if $(ESC50),--esc50='$(ESC50)') $(if $(ESC10),--esc10='$(ESC10)') \
  $(if $(DCASE2013),--dcase2013='$(DCASE2013)')
L3_DIR := $(or $(RUN_DIR),$(DEMO_L3))
SOUND_OWN := $(strip $(RUN_DIR) $(SOUND_SETS))
L3_READY := $(READY) $(if $(RUN_DIR),,$(DEMO_L3)/.made)
DEMO_L3_TRUTH := --demo_shards=$(DEMO)/shards --demo_clips=$(DEMO)/videos/clips.csv
L3_MODELS := --saved_model=$(L3_DIR)/saved_model --random_saved_model=$(L3_DIR)/saved_model_random
AVC_SETS := $(FLICKR_SOUNDNET) $(KINETICS_SOUNDS) $(AUDIOSET)

.PHONY: reproduce-table1
ifneq ($(strip $(AVC_SETS) $(NETWORK_DIRS)),)
reproduce-table1: $(READY)
	@test -n '$(NETWORK_DIRS)' || { echo "error: NETWORK_DIRS is empty; name the run folders of networks: make reproduce-table1 NETWORK_DIRS=\"runs/l3_net ...\" KINETICS_SOUNDS=..." >&2; exit 1; }
	@test $(words $(AVC_SETS)) = 1 || { echo "error: got $(words $(AVC_SETS)) data sets; give one of FLICKR_SOUNDNET, KINETICS_SOUNDS and AUDIOSET, a folder of shards" >&2; exit 1; }
	$(RUN) eval.avc_accuracy --saved_models=$(call saved_models,$(NETWORK_DIRS)) \
	  --shards='$(strip $(AVC_SETS))' $(if $(AUDIOSET),--sampling=ots) \
	  $(if $(AUDIOSET_FLOW),--flow_shards='$(AUDIOSET_FLOW)') --out_dir=$(firstword $(NETWORK_DIRS))
else
reproduce-table1: $(RUNS)/demo/avc_accuracy.json  ## L3 Table 1 and OTS's AVC accuracies (NETWORK_DIRS= yours, on FLICKR_SOUNDNET= KINETICS_SOUNDS= or AUDIOSET= shards; else demo data)
	@cat $(<:.json=.md)
endif

.PHONY: reproduce-table2
ifneq ($(SOUND_OWN),)
reproduce-table2: $(L3_READY)
	$(RUN) eval.table2_sound $(L3_MODELS) $(or $(strip $(SOUND_SETS)),$(DEMO_L3_TRUTH)) \
	  --piczak=$(PICZAK) --out_dir=$(L3_DIR)
else
reproduce-table2: $(RUNS)/demo/table2.json  ## L3 Table 2 (ESC50= ESC10= DCASE2013= folders, RUN_DIR= your network, PICZAK=small or paper; else demo data)
	@cat $(<:.json=.md)
endif

.PHONY: reproduce-table3
ifneq ($(strip $(RUN_DIR) $(IMAGENET)),)
reproduce-table3: $(L3_READY)
	$(RUN) eval.table3_imagenet $(L3_MODELS) $(if $(IMAGENET),--imagenet='$(IMAGENET)',$(DEMO_L3_TRUTH)) \
	  --out_dir=$(L3_DIR)
else
reproduce-table3: $(RUNS)/demo/table3.json  ## L3 Table 3 (IMAGENET= folder, RUN_DIR= your network; else demo data)
	@cat $(<:.json=.md)
endif

.PHONY: reproduce-table4
ifneq ($(strip $(RUN_DIR) $(KINETICS_SOUNDS)),)
reproduce-table4: $(L3_READY)
	$(RUN) eval.table4_nmi $(L3_MODELS) --out_dir=$(L3_DIR) \
	  $(if $(KINETICS_SOUNDS),--shards='$(KINETICS_SOUNDS)',$(DEMO_L3_TRUTH) --num_clusters=14)
else
reproduce-table4: $(RUNS)/demo/table4.json  ## L3 Table 4 and high-preference units (KINETICS_SOUNDS= shards, RUN_DIR= your network; else demo data)
	@cat $(<:.json=.md)
endif

.PHONY: reproduce-retrieval
ifneq ($(strip $(NETWORK_DIRS) $(AUDIOSET)),)
reproduce-retrieval: $(READY) $(if $(NETWORK_DIRS),,$(RETRIEVAL_DEMO:%=%/.made))
	$(RUN) eval.retrieval --saved_models=$(call saved_models,$(or $(NETWORK_DIRS),$(RETRIEVAL_DEMO))) \
	  $(if $(ONTOLOGY),--ontology='$(ONTOLOGY)') $(if $(VGG16_WEIGHTS),--vgg16_weights='$(VGG16_WEIGHTS)') \
	  $(if $(AUDIOSET),--shards='$(AUDIOSET)' $(if $(AUDIOSET_FLOW),--flow_shards='$(AUDIOSET_FLOW)'),$(DEMO_L3_TRUTH) --flow_shards=$(DEMO)/flow_shards) \
	  --out_dir=$(or $(firstword $(NETWORK_DIRS)),runs/audioset)
else
reproduce-retrieval: $(RUNS)/demo/retrieval.json  ## OTS Table 1 (NETWORK_DIRS= yours, AUDIOSET= AUDIOSET_FLOW= shards, ONTOLOGY= json, VGG16_WEIGHTS= h5; else demo data)
	@cat $(<:.json=.md)
endif

.PHONY: reproduce-localization
ifneq ($(strip $(AVOL_DIR) $(BOXES)),)
reproduce-localization: $(READY) $(if $(AVOL_DIR),,$(DEMO_AVOL)/.made)
	$(RUN) eval.localization --saved_model=$(or $(AVOL_DIR),$(DEMO_AVOL))/saved_model \
	  $(if $(BOXES),--boxes='$(BOXES)' --shards='$(BOXES_SHARDS)' --split=$(BOXES_SPLIT),--demo_shards=$(DEMO)/shards --demo_boxes=$(DEMO)/videos/boxes.csv) \
	  --out_dir=$(or $(AVOL_DIR),$(DEMO_AVOL))
else
reproduce-localization: $(RUNS)/demo/localization.json  ## OTS localization (BOXES= csv and BOXES_SHARDS= folder, AVOL_DIR= your network; else demo data)
	@cat $(<:.json=.md)
endif

# --- Figures and the page of everything -----------------------------------------------------------
FIGURES := $(RUNS)/figures
DEMO_AVE := $(RUNS)/demo_ave_net
# One video of each of three classes, from the test split.
FIGURE_VIDEOS := $(patsubst %,$(FIGURES)/%.mp4,test_flute_000 test_violin_fiddle_000 test_hammer_000)

$(FIGURES)/figures.json: $(RUNS)/demo/table2.json $(RUNS)/demo/learning_curves.json $(DEMO_L3)/.made $(DEMO_AVE)/.made $(DEMO_AVOL)/.made
	$(TIMED) eval.figures $(TABLE_OF_DEMO_L3) --ave_saved_model=$(DEMO_AVE)/saved_model \
	  --avol_saved_model=$(DEMO_AVOL)/saved_model --demo_boxes=$(DEMO)/videos/boxes.csv \
	  --table2=$(RUNS)/demo/table2.json --learning_curves=$(RUNS)/demo/learning_curves.json --out_dir=$(@D)

$(FIGURES)/%.mp4: $(DEMO_AVOL)/.made
	$(RUN) l3net.localize --saved_model=$(DEMO_AVOL)/saved_model \
	  --video=$(DEMO)/videos/test/$*.mp4 --out=$@

.PHONY: figures
figures: $(FIGURES)/figures.json $(FIGURE_VIDEOS)  ## Draw every figure of both papers on the demo data (PNG, PDF, sounds, videos)

.PHONY: report
report: demo-tables figures  ## One page with every table, figure and sound: runs/report/index.html
	-@$(MAKE) --no-print-directory check-claims  # the page shows a claim that does not hold
	$(RUN) eval.results_page --tables=$(RUNS)/demo,$(DEMO_L3) --figures=$(FIGURES) \
	  --videos=$(call joined,$(FIGURE_VIDEOS)) --out_dir=$(RUNS)/report

.PHONY: report-demo
report-demo: $(DEMO)/shards/.made  ## Look at the demo data set: report.html in its folder of shards
	$(RUN) data_prep.report --shards_dir=$(DEMO)/shards

.PHONY: bench
bench: $(READY)  ## Measure input pipeline, training step and linear probe (idle machine, some minutes)
	$(RUN) tests.benchmarks.bench_input_pipeline
	$(RUN) tests.benchmarks.bench_training_step
	$(RUN) tests.benchmarks.bench_linear_probe

.PHONY: readme
readme: $(READY)  ## Put the demo tables of the last run into README.md and docs/
	$(RUN) eval.reporting.docs_tables --names=networks,table2 runs/demo/avc_accuracy.md runs/demo/table2.md
	$(RUN) eval.reporting.docs_tables --readme=docs/measurements.md runs/demo/learning_curves.md
	$(RUN) eval.reporting.docs_tables --readme=docs/demo_results.md \
	  $(patsubst %,runs/demo/%.md,claims table3 table4 retrieval localization)

.PHONY: clean
clean:  ## Delete the demo data and all runs (not the virtual environment)
	rm -rf $(DEMO) runs
