# make train   set up, build the embedded data set, train LAST-E nano on it, write a report
# make test    set up, run the test suite
# make check   lint, format, types, spelling, tables and cards as results/ gives them
#
# EXTRAS names what is installed beside the package, such as EXTRAS=dev,parquet,ray,video for all of its tests.
# TORCH=auto takes PyTorch's GPU build where nvidia-smi finds a GPU, else its CPU build; TORCH=cpu or TORCH=cuda decides.

PYTHON ?= python3
TORCH ?= auto
EXTRAS ?= dev
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(EXTRAS)

.PHONY: train test check setup clean

train: setup data/synthetic/meta.json
	$(BIN)/last train --model nano_e --dataset synthetic

data/synthetic/meta.json: | setup
	$(BIN)/last data synthesize

test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check --python $(VENV) src scripts
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs src scripts tests configs
	$(BIN)/python scripts/pretrained.py --check
	$(BIN)/python scripts/tables.py --check

setup: $(READY)

$(READY): pyproject.toml constraints.txt scripts/install.sh
	PYTHON="$(PYTHON)" TORCH="$(TORCH)" EXTRAS="$(EXTRAS)" sh scripts/install.sh "$(VENV)"
	touch $@

clean:
	rm -rf $(VENV) build dist
