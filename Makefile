# L3-Net, AVE-Net, AVOL-Net in TensorFlow 2. `make help` lists what there is.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.DEFAULT_GOAL := help

PYTHON ?= python3
# One environment per Python version, built once and reused.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV ?= .venv/$(PYTHON_VERSION)
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
READY := $(VENV)/.ready
NEWEST := $(VENV)-newest
comma := ,
# tensorflow-io has wheels for Python 3.10 to 3.12.
EXTRAS := $(if $(filter 3.10 3.11 3.12,$(PYTHON_VERSION)),io$(comma))test

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
	@$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# The same Python with the newest TensorFlow and NumPy instead; --upgrade: made again, it is newer.
$(NEWEST)/.ready: setup.cfg pyproject.toml
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	@echo "Installing the newest TensorFlow and what goes with it into $(NEWEST)"
	@$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[test]' 'tensorflow>=2.21' 'numpy>=2'
	@touch $@

.PHONY: test
test: $(READY)  ## Run the tests (under 6 minutes on two cores)
	$(BIN)/python -m pytest

.PHONY: test-newest
test-newest: $(NEWEST)/.ready  ## Run the tests with the newest TensorFlow and NumPy
	$(NEWEST)/bin/python -m pytest

.PHONY: test-slow
test-slow: $(READY)  ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow -n 0

# What fails is kept in runs/fuzz/failures. The tables go into docs/reliability.md.
SECONDS ?= 3600
.PHONY: fuzz
fuzz: $(READY)  ## Run every command on damaged inputs for SECONDS=3600 (SEED=0) and count what comes of it
	$(RUN) tests.benchmarks.fuzz --seconds=$(SECONDS) --seed=$(SEED) --out_dir=runs/fuzz

.PHONY: kills
kills: $(READY)  ## Kill train, extract, search and export 20 times each, and compare with unbroken runs (half an hour, SEED=0)
	$(RUN) tests.benchmarks.kills --seed=$(SEED) --out_dir=runs/kills

# The real openl3 0.4.2 and kapre 0.4.1, without weights; openl3's setup.py ends at Python 3.11.
OPENL3_PYTHON ?= python3.11
OPENL3 := .venv/openl3
OPENL3_SETUP := tests/benchmarks/openl3_setup

$(OPENL3)/.ready: $(OPENL3_SETUP)/requirements.txt $(OPENL3_SETUP)/sitecustomize.py
	$(OPENL3_PYTHON) -m venv $(OPENL3)
	$(OPENL3)/bin/pip install --quiet --requirement $<
	PYTHONPATH=$(OPENL3_SETUP) $(OPENL3)/bin/pip install --quiet --no-deps --no-build-isolation --no-binary openl3 openl3==0.4.2
	@touch $@

.PHONY: prove-openl3
prove-openl3: $(READY) $(OPENL3)/.ready  ## Compare imported networks with the real openl3 (its own environment, 10 minutes)
	$(OPENL3)/bin/python -m tests.benchmarks.openl3_real runs/openl3/real.npz
	$(RUN) tests.benchmarks.openl3_compare runs/openl3/real.npz
	$(RUN) eval.reporting.docs_tables --readme=docs/openl3.md runs/openl3/differences.md

.PHONY: quickstart-page
quickstart-page: $(READY)  ## Run docs/examples/quickstart.ipynb and write docs/quickstart.md (some minutes)
	$(BIN)/python docs/quickstart_page.py

.PHONY: lint
lint: $(READY)  ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# --- A small data set and the networks trained on it ----------------------------------------------
# data/$(DATA)/shards is a prepared folder: yours, or made from data/$(DATA)/videos/manifest.csv.
# Beside it there may be ontology.json, and in videos/ clips.csv (true classes) and boxes.csv.
DATA ?= demo
# make train SEED=1 trains with another seed, into runs/$(DATA)/seed1; tables of several: SEEDS=0,1,2.
SEED ?= 0
SEEDS ?= 0
# Fewer networks take less time; the tables then say "not run" for the others.
NETWORKS ?= supervised_vision supervised_audio supervised_pretraining l3_net ave_net ave_net_naive ave_net_l3 ave_net_mf ave_net_of avol_net
# Further flags of a table: make reproduce-table2 ARGS="--esc50=data/ESC-50". Its files go to runs/$(DATA)/own.
ARGS ?=
$(foreach old,RUN_DIR NETWORK_DIRS AVOL_DIR DEMO_NETWORKS DCASE2013 IMAGENET FLICKR_SOUNDNET KINETICS_SOUNDS AUDIOSET BOXES ONTOLOGY,\
  $(if $(filter command line,$(origin $(old))),$(error $(old)= is not read any more; README.md shows the command for your own data)))

empty :=
space := $(empty) $(empty)
joined = $(subst $(space),$(comma),$(strip $(1)))
FOLDER := data/$(DATA)
SHARDS := $(FOLDER)/shards
FLOW_SHARDS := $(FOLDER)/flow_shards
# The folder of a data set's runs with a seed; runs_of: of DATA's.
run_of = runs/$(1)$(if $(filter 0,$(2)),,/seed$(2))
runs_of = $(call run_of,$(DATA),$(1))
RUNS := $(call runs_of,$(SEED))
OUT := $(RUNS)$(if $(ARGS),/own)
saved_models = $(call joined,$(1:%=$(RUNS)/%/saved_model))
# A flag for a file that the data set may have: looked for when the command runs.
optional = $$(test ! -e $(2) || echo --$(1)=$(2))
CLIPS = $(call optional,clips,$(FOLDER)/videos/clips.csv)
# Notes how long each step took; `make reproduce-all` shows it: $(TIMED) command $(NOTED).
TIMES := runs/times.tsv
TIMED = mkdir -p runs && TIMEFORMAT=$$'%0R\t$(patsubst %/.made,%,$@)'; { time $(RUN)
NOTED = 2>&3; } 3>&2 2>> $(TIMES)

# What the demo data is made of.
DRAWN := data_prep/demo.py $(wildcard data_prep/demo_data/*.py)

data/demo/videos/manifest.csv: $(READY) $(DRAWN)
	$(TIMED) data_prep.demo --out_dir=$(@D) $(NOTED)
	@touch $@

# Handwritten digits and voices: make train DATA=av_digits MNIST=folder SPOKEN_DIGITS=folder/recordings.
data/av_digits/videos/manifest.csv: | $(READY)
	$(RUN) data_prep.datasets --dataset=av_digits --media_dir=$(@D) --manifest=$@ \
	  $(if $(MNIST),--mnist=$(MNIST)) $(if $(SPOKEN_DIGITS),--spoken_digits=$(SPOKEN_DIGITS))

data/%/shards/outcomes.csv: data/%/videos/manifest.csv
	$(TIMED) data_prep.write_shards --manifest=$< --videos_dir=$(<D) --out_dir=$(@D) --dataset_name=$* $(NOTED)
	@touch $@

# The same clips with optical flow, small: TV-L1 costs more than all else.
data/%/flow_shards/outcomes.csv: data/%/videos/manifest.csv
	$(TIMED) data_prep.write_shards --manifest=$< --videos_dir=$(<D) --out_dir=$(@D) --dataset_name=$* --flow_smallest_side_px=64 $(NOTED)
	@touch $@

TRAINED := $(SHARDS)/outcomes.csv l3net/configs/small_common.flags l3net/configs/common.flags

$(RUNS)/%/.made: l3net/configs/small_%.flags $(TRAINED) | $(READY)
	$(TIMED) l3net.train --flagfile=$< --run_dir=$(@D) --seed=$(SEED) \
	  --shards=$(if $(filter ave_net_of,$*),$(FLOW_SHARDS),$(SHARDS)) \
	  $(if $(filter supervised_pretraining,$*),--init_from=$(RUNS)/supervised_vision$(comma)$(RUNS)/supervised_audio) $(NOTED)
	$(RUN) l3net.export --run_dir=$(@D)
	$(if $(filter l3_net,$*),$(RUN) l3net.export --run_dir=$(@D) --random_weights --shards=$(SHARDS) --seed=$(SEED))
	@touch $@

$(RUNS)/ave_net_of/.made: $(FLOW_SHARDS)/outcomes.csv
$(RUNS)/supervised_pretraining/.made: $(RUNS)/supervised_vision/.made $(RUNS)/supervised_audio/.made

.PHONY: data
data: $(SHARDS)/outcomes.csv  ## Make the demo data set (DATA=demo) or prepare yours (DATA=name)

.PHONY: train
train: $(RUNS)/avc_accuracy.json $(RUNS)/learning_curves.json  ## Train and export every network on DATA (an hour and a half on two cores), print their table (SEED=)
	@cat $(RUNS)/avc_accuracy.md

# --- Tables ---------------------------------------------------------------------------------------
made = $(1:%=$(RUNS)/%/.made)
L3_NET = --saved_model=$(RUNS)/l3_net/saved_model --random_saved_model=$(RUNS)/l3_net/saved_model_random --shards=$(SHARDS) $(CLIPS)
RETRIEVERS := $(filter l3_net ave_net ave_net_naive ave_net_mf ave_net_of,$(NETWORKS))
FLOW := $(if $(filter ave_net_of,$(NETWORKS)),--flow_shards=$(FLOW_SHARDS))
END = $(ARGS) --out_dir=$(OUT) $(NOTED)

$(RUNS)/learning_curves.json: $(call made,$(NETWORKS))
	$(TIMED) eval.reporting.curves --runs=$(call joined,$(NETWORKS:%=$(RUNS)/%)) --out_dir=$(RUNS) $(NOTED)

$(OUT)/avc_accuracy.json: $(call made,$(NETWORKS)) $(if $(ARGS),again)
	$(TIMED) eval.avc_accuracy --saved_models=$(call saved_models,$(NETWORKS)) --shards=$(SHARDS) $(FLOW) $(END)

$(OUT)/table2.json: $(call made,l3_net) $(if $(ARGS),again)
	$(TIMED) eval.table2_sound $(L3_NET) --piczak=small --piczak_epochs=10 $(END)

$(OUT)/table3.json: $(call made,l3_net) $(if $(ARGS),again)
	$(TIMED) eval.table3_imagenet $(L3_NET) --epochs=12 --batch_size=32 $(END)

$(OUT)/table4.json: $(call made,l3_net) $(if $(ARGS),again)
	$(TIMED) eval.table4_nmi $(L3_NET) --num_clusters=0 $(END)

$(OUT)/retrieval.json: $(call made,$(RETRIEVERS)) $(if $(ARGS),again)
	$(TIMED) eval.retrieval --saved_models=$(call saved_models,$(RETRIEVERS)) --shards=$(SHARDS) $(FLOW) $(CLIPS) \
	  $(call optional,ontology,$(FOLDER)/ontology.json) $(END)

$(OUT)/localization.json: $(call made,avol_net) $(if $(ARGS),again)
	$(TIMED) eval.localization --saved_model=$(RUNS)/avol_net/saved_model --shards=$(SHARDS) \
	  --boxes=$(FOLDER)/videos/boxes.csv $(END)

.PHONY: again
again:

# The papers' names of the tables; each shows its table.
TABLE_TARGETS := reproduce-table1 reproduce-table2 reproduce-table3 reproduce-table4 reproduce-retrieval reproduce-localization
.PHONY: $(TABLE_TARGETS)
reproduce-table1: $(OUT)/avc_accuracy.json  ## L3 Table 1 and the AVC accuracies of OTS, on DATA (ARGS= further flags of the table)
reproduce-table2: $(OUT)/table2.json  ## L3 Table 2, sounds (ARGS="--esc50=folder --dcase2013=folder" for the real ones)
reproduce-table3: $(OUT)/table3.json  ## L3 Table 3, images (ARGS="--imagenet=folder")
reproduce-table4: $(OUT)/table4.json  ## L3 Table 4, clusters and high-preference units
reproduce-retrieval: $(OUT)/retrieval.json  ## OTS Table 1, cross-modal retrieval (ARGS="--vgg16_weights=file.h5")
reproduce-localization: $(OUT)/localization.json  ## OTS section 4.1, localization
$(TABLE_TARGETS):
	@$(if $(ARGS),,cat $(<:.json=.md))

# L3 Table 2 on ESC-50 with untrained networks at the papers' width, of stride 1 and 2 (l3_net_ots),
# with the statistics of $(SHARDS) for batch norm and with none. What is done is kept in cache/.
ESC50_RUNS := runs/esc50
$(ESC50_RUNS)/%/.made: $(SHARDS)/outcomes.csv | $(READY)
	@mkdir -p $(@D)
	echo '{"model": "$*"}' > $(@D)/model.json
	$(RUN) l3net.export --run_dir=$(@D) --random_weights --shards=$(SHARDS) --seed=$(SEED)
	$(RUN) l3net.export --run_dir=$(@D) --random_weights --out=$(@D)/saved_model_identity --seed=$(SEED)
	@touch $@

# Twice: Piczak's ConvNet takes most of the time, so the other rows are written before.
.PHONY: reproduce-esc50
reproduce-esc50: $(if $(ESC50),$(patsubst %,$(ESC50_RUNS)/%/.made,l3_net l3_net_ots))  ## L3 Table 2 on ESC-50 with Piczak's ConvNet (ESC50=folder; a day on two cores, a killed one goes on)
	@test -n "$(ESC50)" || { echo "error: got no ESC50=; give the folder that holds ESC-50's audio/ and meta/: make $@ ESC50=data/ESC-50" >&2; exit 1; }
	for piczak in off paper; do \
	  $(RUN) eval.table2_sound --esc50=$(ESC50) --random_saved_model=$(ESC50_RUNS)/l3_net/saved_model_random \
	    --further_saved_models=$(call joined,$(addprefix $(ESC50_RUNS)/,l3_net/saved_model_identity l3_net_ots/saved_model_random l3_net_ots/saved_model_identity)) --piczak=$$piczak --seed=$(SEED) \
	    --cache_dir=$(ESC50_RUNS)/cache --out_dir=$(ESC50_RUNS) || exit 1; \
	  $(RUN) eval.reporting.seeds --only_run --seeds=$(SEED) --out_dir=$(ESC50_RUNS)/run_rows $(ESC50_RUNS)/table2.json || exit 1; \
	done

HAS_BOXES := $(or $(filter demo av_digits,$(DATA)),$(wildcard $(FOLDER)/videos/boxes.csv))
TABLES := avc_accuracy table2 table3 table4 retrieval $(if $(HAS_BOXES),localization)
EACH_SEED := $(subst $(comma), ,$(SEEDS))
TABLES_OF_SEEDS := $(foreach seed,$(EACH_SEED),$(TABLES:%=$(call runs_of,$(seed))/%.json))

.PHONY: tables
tables: $(TABLES:%=$(RUNS)/%.json) $(RUNS)/learning_curves.json

.PHONY: tables-of-seeds
tables-of-seeds: $(READY)
	@for seed in $(EACH_SEED); do $(MAKE) --no-print-directory tables SEED=$$seed || exit 1; done

.PHONY: reproduce-all
reproduce-all: $(READY)  ## Every table of both papers on DATA (under two hours on two cores; SEEDS=0,1,2 for mean and spread)
	@rm -f $(TIMES)
	@$(MAKE) --no-print-directory tables-of-seeds
	@cat $(TABLES_OF_SEEDS:.json=.md)
	$(if $(word 2,$(EACH_SEED)),$(RUN) eval.reporting.seeds --seeds=$(SEEDS) --out_dir=runs/$(DATA)/over_seeds $(TABLES_OF_SEEDS))
	@test ! -s $(TIMES) || awk -F'\t' '{ s[$$2] += $$1; all += $$1 } END { print "Where the time went:"; \
	  for (n in s) printf "%8d s  %3d %%  %s\n", s[n], 100 * s[n] / (all + 1e-9), n | "sort -rn"; \
	  close("sort -rn"); printf "%8d s         in all\n", all }' $(TIMES)

.PHONY: check-claims
check-claims: tables-of-seeds  ## Check the papers' orderings on the tables of SEEDS (STRICT=1: fail if one does not hold)
	@$(RUN) eval.reporting.claims $(if $(STRICT),--strict) --out_dir=runs/$(DATA) $(TABLES_OF_SEEDS)

# --- Real recordings and photographs --------------------------------------------------------------
# L3-Nets trained on the first of SOURCES (the rows "Ours"), on the others, with labels, and not at all
# (batch norm measured on the same data, or identity), on what is given of ESC10=, ESC50=,
# SPOKEN_DIGITS= and PHOTOS= (train/ and val/ with class folders).
SOURCES ?= av_digits demo
EVIDENCE := runs/evidence
RECORDINGS = $(if $(ESC10),--esc10=$(ESC10)) $(if $(ESC50),--esc50=$(ESC50)) $(if $(SPOKEN_DIGITS),--spoken_digits=$(SPOKEN_DIGITS))
# The flags that name a seed's networks, and further ones.
named = --saved_model=$(call run_of,$(firstword $(SOURCES)),$(1))/l3_net/saved_model \
  --random_saved_model=$(call run_of,$(firstword $(SOURCES)),$(1))/l3_net/saved_model_random \
  --further_saved_models=$(call joined,$(EVIDENCE)/seed$(1)/identity \
    $(foreach data,$(wordlist 2,9,$(SOURCES)),$(addprefix $(call run_of,$(data),$(1))/l3_net/,saved_model saved_model_random)) $(2))
with_labels = $(foreach data,$(SOURCES),$(call run_of,$(data),$(1))/supervised_vision/saved_model)
sounds_of = $(RUN) eval.table2_sound $(call named,$(1)) $(RECORDINGS) --out_dir=$(EVIDENCE)/seed$(1)
photos_of = $(RUN) eval.table3_imagenet $(call named,$(1),$(call with_labels,$(1))) --imagenet=$(PHOTOS) --augmentation=none \
  --epochs=50 --batch_size=32 --from_scratch --scratch_epochs=100 --scratch_learning_rate=1e-3 --seed=$(1) --out_dir=$(EVIDENCE)/seed$(1)
means_of = $(RUN) eval.reporting.seeds --only_run --seeds=$(SEEDS) --out_dir=$(EVIDENCE) $(EACH_SEED:%=$(EVIDENCE)/seed%/$(1).json)

.PHONY: evidence
evidence: $(READY)  ## Tables 2 and 3 on real recordings and photographs (ESC10= ESC50= SPOKEN_DIGITS= PHOTOS= folders, SEEDS=0,1,2)
	@test -n "$(strip $(RECORDINGS)$(PHOTOS))" || { echo "error: give folders: make $@ ESC50=data/ESC-50 PHOTOS=data/caltech" >&2; exit 1; }
	@$(foreach data,$(SOURCES),$(foreach seed,$(EACH_SEED),\
	  $(MAKE) --no-print-directory DATA=$(data) SEED=$(seed) $(call run_of,$(data),$(seed))/{l3_net,supervised_vision}/.made && )) true
	$(foreach seed,$(EACH_SEED),test -e $(EVIDENCE)/seed$(seed)/identity || $(RUN) l3net.export --run_dir=$(call run_of,$(firstword $(SOURCES)),$(seed))/l3_net \
	  --random_weights --batch_norm_batches=0 --seed=$(seed) --out=$(EVIDENCE)/seed$(seed)/identity || exit 1; )
	$(if $(strip $(RECORDINGS)),$(foreach seed,$(EACH_SEED),$(call sounds_of,$(seed)) && ) $(call means_of,table2))
	$(if $(PHOTOS),$(foreach seed,$(EACH_SEED),$(call photos_of,$(seed)) && ) $(call means_of,table3))

# --- Figures and the page of everything -----------------------------------------------------------
FIGURES := $(RUNS)/figures
# One video of each of three classes, from the test split.
demo_VIDEOS := test_flute_000 test_violin_fiddle_000 test_hammer_000
VIDEOS := $(or $($(DATA)_VIDEOS),$(basename $(notdir $(wordlist 1,3,$(sort $(wildcard $(FOLDER)/videos/test/*.mp4))))))
FIGURE_VIDEOS := $(VIDEOS:%=$(FIGURES)/%.mp4)

$(FIGURES)/figures.json: $(RUNS)/table2.json $(RUNS)/learning_curves.json $(call made,l3_net ave_net avol_net)
	$(TIMED) eval.figures $(L3_NET) --ave_saved_model=$(RUNS)/ave_net/saved_model --avol_saved_model=$(RUNS)/avol_net/saved_model \
	  $(call optional,boxes,$(FOLDER)/videos/boxes.csv) --table2=$(RUNS)/table2.json \
	  --learning_curves=$(RUNS)/learning_curves.json --out_dir=$(@D) $(NOTED)

$(FIGURES)/%.mp4: $(call made,avol_net)
	$(RUN) l3net.localize --saved_model=$(RUNS)/avol_net/saved_model --video=$(FOLDER)/videos/test/$*.mp4 --out=$@

.PHONY: figures
figures: $(FIGURES)/figures.json $(FIGURE_VIDEOS)  ## Draw every figure of both papers on DATA (PNG, PDF, sounds, videos)

.PHONY: report
report: tables figures  ## One page with every table, figure and sound: runs/DATA/report/index.html
	@$(MAKE) --no-print-directory check-claims STRICT=  # the page shows what does not hold
	$(RUN) eval.results_page --tables=$(RUNS) --figures=$(FIGURES) --videos=$(call joined,$(FIGURE_VIDEOS)) --out_dir=$(RUNS)/report

.PHONY: report-data
report-data: $(SHARDS)/outcomes.csv  ## Look at the data set: report.html in its folder of shards
	$(RUN) data_prep.report --shards_dir=$(SHARDS)

# --- Benchmarks -----------------------------------------------------------------------------------
# Where tf2onnx is, beside the newest TensorFlow.
FORMATS := .venv/formats
$(FORMATS)/.ready:
	$(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/pip install --quiet tensorflow tf2onnx onnxruntime
	@touch $@

.PHONY: bench-formats
bench-formats: $(READY) $(FORMATS)/.ready  ## Compare SavedModel (two TensorFlows), TFSMLayer, TFLite and ONNX (some minutes)
	$(RUN) tests.benchmarks.bench_export_formats --other_python=$(FORMATS)/bin/python

# PyTorch is large: some GB where pip brings the build for GPUs.
$(FORMATS)/.torch: $(FORMATS)/.ready
	$(FORMATS)/bin/pip install --quiet torch
	@touch $@

# On real sounds and videos: make bench SOUNDS=folder FLOW_VIDEOS=a.mp4,b.mp4; beside the real
# openl3, too, where make prove-openl3 was run.
BENCH := runs/bench
BENCHES := training_step embedding input_pipeline cold_start linear_probe $(if $(SOUNDS),extract) $(if $(FLOW_VIDEOS),flow)
PEERS := --other_python=$(FORMATS)/bin/python
bench_training_step := $(PEERS)
bench_embedding := $(PEERS)
bench_cold_start := $(if $(wildcard $(OPENL3)/.ready),--openl3_python=$(OPENL3)/bin/python)
bench_extract := --media_dir=$(SOUNDS) --sizes=stride2,demo
bench_flow := --videos=$(FLOW_VIDEOS)
NOT_RUN := $(if $(SOUNDS),,extract (SOUNDS=folder)) $(if $(FLOW_VIDEOS),,flow (FLOW_VIDEOS=a.mp4))

.PHONY: bench
bench: $(BENCHES:%=$(BENCH)/%.json)  ## One table of speeds beside peers and limits (idle machine, half an hour; SOUNDS=folder FLOW_VIDEOS=a.mp4,b.mp4)
	$(RUN) tests.benchmarks.table --out=$(BENCH)/bench.md --not_run="$(strip $(NOT_RUN))" $^

$(BENCH)/%.json: $(READY) $(FORMATS)/.torch again
	$(RUN) tests.benchmarks.bench_$* $(bench_$*) --out=$@

.PHONY: bench-embedding
bench-embedding: $(BENCH)/embedding.json  ## Windows of sound per second beside PyTorch and ONNX Runtime (idle machine, ten minutes)

OF_SEEDS := avc table4 retrieval localization
.PHONY: readme
readme: $(READY)  ## Put the tables of the last runs on the demo data, av_digits and real material into README.md and docs/
	$(RUN) eval.reporting.docs_tables --readme=docs/measurements.md runs/demo/learning_curves.md $(BENCH)/bench.md
	$(RUN) eval.reporting.docs_tables --readme=docs/demo_results.md --names=networks,table2,table3,table4,retrieval,localization,claims \
	  $(patsubst %,runs/demo/%.md,avc_accuracy table2 table3 table4 retrieval localization claims)
	$(RUN) eval.reporting.docs_tables --readme=docs/demo_results.md --names=$(call joined,$(OF_SEEDS:%=%_over_seeds)) \
	  $(patsubst %,runs/demo/over_seeds/%.md,$(subst avc,avc_accuracy,$(OF_SEEDS)))
	$(RUN) eval.reporting.docs_tables --readme=docs/demo_results.md --results=docs/demo_results.md
	$(RUN) eval.reporting.docs_tables --readme=docs/reliability.md runs/fuzz/fuzz.md runs/kills/kills.md
	$(RUN) eval.reporting.docs_tables --readme=docs/evidence.md \
	  --names=digits_networks,digits_retrieval,digits_localization,digits_claims,sounds,esc50,photographs \
	  $(patsubst %,runs/%.md,$(addprefix av_digits/over_seeds/,avc_accuracy retrieval localization) av_digits/claims evidence/table2 esc50/run_rows/table2 evidence/table3)
	$(RUN) eval.reporting.docs_tables --results=docs/demo_results.md,docs/evidence.md

# The names of these targets before there was DATA.
.PHONY: demo-data train-demo report-demo
demo-data: data
train-demo: train
report-demo: report-data

.PHONY: clean
clean:  ## Delete the demo data and all runs (not the virtual environment)
	rm -rf data/demo runs
