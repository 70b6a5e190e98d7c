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
DEMO := data/demo
DEMO_RUN := runs/demo_l3_net
DEMO_NETWORKS := supervised_vision supervised_audio supervised_pretraining l3_net ave_net ave_net_naive ave_net_mf ave_net_of avol_net
comma := ,
empty :=
space := $(empty) $(empty)

$(DEMO)/videos/.done: $(READY) data_prep/demo.py data_prep/demo_sounds.py data_prep/demo_scenes.py
	$(RUN) data_prep.demo --out_dir=$(DEMO)/videos
	@touch $@

$(DEMO)/shards/.done: $(DEMO)/videos/.done
	$(RUN) data_prep.write_shards --manifest=$(DEMO)/videos/manifest.csv \
	  --videos_dir=$(DEMO)/videos --out_dir=$(DEMO)/shards --dataset_name=demo
	@touch $@

# The same clips with optical flow, small: TV-L1 costs more than all else.
$(DEMO)/flow_shards/.done: $(DEMO)/videos/.done
	$(RUN) data_prep.write_shards --manifest=$(DEMO)/videos/manifest.csv \
	  --videos_dir=$(DEMO)/videos --out_dir=$(DEMO)/flow_shards --dataset_name=demo \
	  --flow_smallest_side_px=64
	@touch $@

runs/demo_%/.done: $(DEMO)/shards/.done l3net/configs/demo_%.flags l3net/configs/demo_common.flags l3net/configs/common.flags
	$(RUN) l3net.train --flagfile=l3net/configs/demo_$*.flags --run_dir=$(@D)
	$(RUN) l3net.export --run_dir=$(@D)
	$(if $(filter l3_net,$*),$(RUN) l3net.export --run_dir=$(@D) --random_weights)
	@touch $@

runs/demo_ave_net_of/.done: $(DEMO)/flow_shards/.done
runs/demo_supervised_pretraining/.done: runs/demo_supervised_vision/.done runs/demo_supervised_audio/.done
.SECONDARY:

.PHONY: demo-data
demo-data: $(DEMO)/shards/.done  ## Make the embedded demo data set and prepare it

.PHONY: train-demo
train-demo: $(DEMO_NETWORKS:%=runs/demo_%/.done)  ## Train and export every network on the demo data (an hour on two cores), print their table
	$(RUN) eval.avc_accuracy --shards=$(DEMO)/shards --flow_shards=$(DEMO)/flow_shards \
	  --saved_models=$(subst $(space),$(comma),$(DEMO_NETWORKS:%=runs/demo_%/saved_model)) \
	  --sampling=ots --num_pairs=2016 --out_dir=runs/demo
	$(RUN) eval.learning_curves --runs=$(subst $(space),$(comma),$(DEMO_NETWORKS:%=runs/demo_%)) \
	  --out_dir=runs/demo

# --- Tables ---------------------------------------------------------------------------------------
# Your own network and data: make reproduce-table2 RUN_DIR=runs/l3_net ESC50=data/ESC-50
ESC50 ?=
ESC10 ?=
DCASE2013 ?=
RUN_DIR ?= $(DEMO_RUN)
SOUND_SETS := $(if $(ESC50),--esc50='$(ESC50)') $(if $(ESC10),--esc10='$(ESC10)') \
  $(if $(DCASE2013),--dcase2013='$(DCASE2013)')

.PHONY: reproduce-table2
reproduce-table2: $(READY) $(if $(filter $(DEMO_RUN),$(RUN_DIR)),$(DEMO_RUN)/.done)  ## L3 Table 2 (ESC50= ESC10= DCASE2013= folders, else demo data; RUN_DIR= your network)
	$(if $(filter $(DEMO_RUN),$(RUN_DIR)),$(RUN) eval.avc_accuracy --saved_models=$(RUN_DIR)/saved_model \
	  --shards=$(DEMO)/shards --sampling=ots --num_pairs=2016 --out_dir=$(RUN_DIR))
	$(RUN) eval.table2_sound --saved_model=$(RUN_DIR)/saved_model \
	  --random_saved_model=$(RUN_DIR)/saved_model_random --out_dir=$(RUN_DIR) \
	  $(or $(strip $(SOUND_SETS)),--demo_shards=$(DEMO)/shards --demo_clips=$(DEMO)/videos/clips.csv)

# Other tables, of your own data and networks: make reproduce-table4 KINETICS_SOUNDS=shards/ks RUN_DIR=runs/l3_net
KINETICS_SOUNDS ?=
AUDIOSET ?=
AUDIOSET_FLOW ?=
ONTOLOGY ?=
VGG16_WEIGHTS ?=
NETWORK_DIRS ?=
BOXES ?=
BOXES_SHARDS ?=
BOXES_SPLIT ?= val
AVOL_DIR ?= runs/demo_avol_net
RETRIEVAL_DEMO := runs/demo_l3_net runs/demo_ave_net runs/demo_ave_net_naive runs/demo_ave_net_mf runs/demo_ave_net_of

.PHONY: reproduce-table4
reproduce-table4: $(READY) $(if $(filter $(DEMO_RUN),$(RUN_DIR)),$(DEMO_RUN)/.done)  ## L3 Table 4 and high-preference units (KINETICS_SOUNDS= shards, else demo data; RUN_DIR= your network)
	$(RUN) eval.table4_nmi --saved_model=$(RUN_DIR)/saved_model \
	  --random_saved_model=$(RUN_DIR)/saved_model_random --out_dir=$(RUN_DIR) \
	  $(if $(KINETICS_SOUNDS),--shards='$(KINETICS_SOUNDS)',--demo_shards=$(DEMO)/shards \
	  --demo_clips=$(DEMO)/videos/clips.csv --num_clusters=14)

.PHONY: reproduce-retrieval
reproduce-retrieval: $(READY) $(if $(NETWORK_DIRS),,$(RETRIEVAL_DEMO:%=%/.done))  ## OTS Table 1 (AUDIOSET= AUDIOSET_FLOW= shards, ONTOLOGY= json, else demo data; NETWORK_DIRS= your networks)
	$(RUN) eval.retrieval --out_dir=runs/demo --saved_models=$(subst $(space),$(comma),$(patsubst %,%/saved_model,$(or $(NETWORK_DIRS),$(RETRIEVAL_DEMO)))) \
	  $(if $(ONTOLOGY),--ontology='$(ONTOLOGY)') $(if $(VGG16_WEIGHTS),--vgg16_weights='$(VGG16_WEIGHTS)') \
	  $(if $(AUDIOSET),--shards='$(AUDIOSET)' $(if $(AUDIOSET_FLOW),--flow_shards='$(AUDIOSET_FLOW)'),--demo_shards=$(DEMO)/shards \
	  --demo_clips=$(DEMO)/videos/clips.csv --flow_shards=$(DEMO)/flow_shards)

.PHONY: reproduce-localization
reproduce-localization: $(READY) $(if $(filter runs/demo_avol_net,$(AVOL_DIR)),runs/demo_avol_net/.done)  ## OTS localization (BOXES= csv and BOXES_SHARDS= folder, else demo data; AVOL_DIR= your network)
	$(RUN) eval.localization --saved_model=$(AVOL_DIR)/saved_model --out_dir=$(AVOL_DIR) \
	  $(if $(BOXES),--boxes='$(BOXES)' --shards='$(BOXES_SHARDS)' --split=$(BOXES_SPLIT),--demo_shards=$(DEMO)/shards \
	  --demo_boxes=$(DEMO)/videos/boxes.csv)

.PHONY: report-demo
report-demo: $(DEMO)/shards/.done  ## Look at the demo data set: report.html in its folder of shards
	$(RUN) data_prep.report --shards_dir=$(DEMO)/shards

.PHONY: bench
bench: $(READY)  ## Measure input pipeline, training step and linear probe (idle machine, some minutes)
	$(RUN) tests.benchmarks.bench_input_pipeline
	$(RUN) tests.benchmarks.bench_training_step
	$(RUN) tests.benchmarks.bench_linear_probe

.PHONY: readme
readme: $(READY)  ## Put the demo tables of the last run into the README
	$(RUN) eval.readme_tables --names=networks,table2 runs/demo/avc_accuracy.md $(DEMO_RUN)/table2.md
	$(RUN) eval.readme_tables --readme=docs/measurements.md runs/demo/learning_curves.md

.PHONY: clean
clean:  ## Delete the demo data and all runs (not the virtual environment)
	rm -rf $(DEMO) runs
