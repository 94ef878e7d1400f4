# `make all` trains, exports, builds, validates, benchmarks and reports; `make test` tests. Needs Python ≥ 3.11 and make.
# Options of the stages: make train ARGS="--set train.epochs=3 --config pipeline.toml --force"

STAGES := train export engine validate benchmark report

# The first of these that is there and that TensorFlow has wheels for.
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,\
	$(shell $(python) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(python))))
comma := ,
# The environment for a GPU where its driver answers; make EXTRAS=dev sets up the one without.
EXTRAS ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu,dev || echo dev)

# ONNX Runtime's build for CUDA 12 takes the place of the base install's, whose folder it fills: never both.
CUDA_RUNTIME := onnxruntime-gpu>=1.26,<1.27
FOR_GPU := $(filter gpu cuda,$(subst $(comma), ,$(EXTRAS)))
WITH_CUDA := $(and $(FOR_GPU),$(filter x86_64,$(shell uname -m)))

BROWSER = $(firstword $(foreach name,chromium chromium-browser google-chrome google-chrome-stable,\
	$(shell command -v $(name))))
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
BIN := .venv/bin
PYTORCH := .venv-pytorch/bin/python
MODELOPT := .venv-modelopt/bin/python
TRITON := .venv-triton/bin/python
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := .venv/installed-$(subst $(comma),-,$(EXTRAS))
ARGS ?=

.NOTPARALLEL:
.PHONY: all $(STAGES) localise deploy verify serve examples bench-peers bench-train bench-modelopt bench-large bench-serving \
	bench-score torture coverage-table setup doctor \
	tensorboard predict pytorch-exporter modelopt triton triton-check test test-long test-pythons gpu-check \
	browser browser-test check format lint types help

all: $(STAGES) ## everything, from training to the report

$(STAGES): $(INSTALLED)
	@$(BIN)/python -m pipeline $@ $(ARGS)

train: ## train the Keras model, on the GPU where there is one
export: ## export it to SavedModel and ONNX
engine: ## build a TensorRT engine for each precision
validate: ## compare outputs and accuracy, runner by runner and hop by hop
benchmark: ## time every runner against the original; recommend the fastest that passed
report: ## write artifacts/report/index.html and report.md

deploy: $(INSTALLED) ## put what passed into a bundle to serve: artifacts/deploy/bundle (docs/serving.md)
	@$(BIN)/python -m pipeline deploy $(ARGS)

verify: $(INSTALLED) ## check every byte of the bundle, and who signed it
	@$(BIN)/python -m pipeline verify $(ARGS)

serve: $(INSTALLED) ## serve the bundle, with a page to try it on: http://127.0.0.1:8000
	@$(BIN)/python -m pipeline serve $(ARGS)

localise: $(INSTALLED) ## where a precision loses accuracy: make localise ARGS="--precision int8"
	@$(BIN)/python -m pipeline localise $(ARGS)

examples: $(INSTALLED) ## train the models in examples/ and take each through every stage
	@set -e; for name in $(patsubst examples/%/model.py,%,$(wildcard examples/*/model.py)); do \
		echo "── $$name"; \
		$(BIN)/python examples/$$name/model.py; \
		$(BIN)/python -m pipeline all --config examples/$$name/pipeline.toml $(ARGS); \
	done

bench-peers: $(INSTALLED) ## time our runners and others (benchmarks/README.md)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-train: $(INSTALLED) ## train by the article's script and by ours, in turn (benchmarks/README.md)
	@$(BIN)/python -m benchmarks.training $(ARGS)

bench-modelopt: $(INSTALLED) modelopt ## our FP16, INT8 and FP8 graphs beside NVIDIA Model Optimizer's (benchmarks/README.md)
	@$(BIN)/python -m benchmarks.modelopt $(ARGS)
bench-serving: $(INSTALLED) ## our server under load and faults, beside a real Triton where `make triton` set it up
	@$(BIN)/python -m benchmarks.serving $(ARGS)

bench-large: $(INSTALLED) ## models of 25 to 600 million parameters through the stages, with their memory (benchmarks/README.md)
	@$(BIN)/python -m benchmarks.large $(ARGS)

bench-score: $(INSTALLED) ## score 100,000 images with the bundle, undisturbed and killed (benchmarks/README.md)
	@$(BIN)/python -m benchmarks.scoring artifacts $(ARGS)

coverage-table: $(INSTALLED) pytorch-exporter ## which Keras layers come through, measured anew: docs/coverage.md
	@$(PIP) show --quiet keras-hub 2>/dev/null || $(PIP) install --quiet --constraint constraints.txt --editable '.[coverage]'
	@$(BIN)/python -m benchmarks.coverage $(ARGS)

tensorboard: $(INSTALLED) ## TensorBoard on the logs of trainings with train.tensorboard=true
	@$(PIP) show --quiet tensorboard 2>/dev/null || $(PIP) install --quiet --constraint constraints.txt --editable '.[tensorboard]'
	@$(BIN)/tensorboard --logdir artifacts $(ARGS)

predict: $(INSTALLED) ## classify images: make predict ARGS="image.png"
	@$(BIN)/python -m pipeline predict $(ARGS)

doctor: $(INSTALLED) ## what this machine has and what each stage will use
	@$(BIN)/python -m pipeline doctor $(ARGS)

setup: $(INSTALLED) ## make or refresh .venv
	@echo ".venv is ready: keras-tensorrt-pipeline[$(EXTRAS)]"

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; make PYTHON=/path/to/python"; exit 1; }
	@echo "setting up .venv with $(PYTHON), extras: $(EXTRAS)$(if $(FOR_GPU), (nvidia-smi answers),\
	 (nvidia-smi does not answer: no GPU))"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@! $(PIP) show --quiet onnxruntime-gpu 2>/dev/null || $(PIP) uninstall --quiet --yes onnxruntime-gpu onnxruntime
	@$(PIP) install --quiet --constraint constraints.txt \
		--editable '.[$(EXTRAS)]' || { echo "The set-up failed; pip's message is above.$(if $(findstring gpu,$(EXTRAS)),\
		TensorRT comes from NVIDIA's index. Without it: make EXTRAS=cuda$(comma)dev; without GPU: make EXTRAS=dev)"; exit 1; }
ifneq ($(WITH_CUDA),)
	@$(PIP) uninstall --quiet --yes onnxruntime
	@$(PIP) install --quiet --constraint constraints.txt --no-deps '$(CUDA_RUNTIME)'
endif
	@rm -f .venv/installed-*
	@touch $@

pytorch-exporter: $(INSTALLED) ## a second exporter, for what tf2onnx cannot export: PyTorch, in .venv-pytorch
	@test -x $(PYTORCH) || $(BIN)/python -m venv .venv-pytorch
	@$(PYTORCH) -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		torch onnxscript keras onnx
	@echo ".venv-pytorch is ready: $$(du -sh .venv-pytorch | cut -f1)"

# It pins other versions of ONNX and ONNX Runtime than ours, so that constraints.txt holds for PyTorch alone.
modelopt: $(INSTALLED) ## NVIDIA Model Optimizer, in .venv-modelopt: what bench-modelopt holds our graphs against
	@test -x $(MODELOPT) || $(BIN)/python -m venv .venv-modelopt
	@$(MODELOPT) -m pip --disable-pip-version-check install --quiet \
		$(shell grep '^torch==' constraints.txt) 'nvidia-modelopt[onnx]==0.47.0'
	@echo ".venv-modelopt is ready: $$(du -sh .venv-modelopt | cut -f1)"

# Its pins are its own, older than ours; KServe's classes are there to hold a manifest to.
triton: $(INSTALLED) ## a real tritonserver, in .venv-triton: a test tool for this machine alone
	@test -x $(TRITON) || $(BIN)/python -m venv .venv-triton
	@$(TRITON) -m pip --disable-pip-version-check install --quiet \
		'nvidia-pytriton==0.7.*' 'kserve==0.21.*' 'onnxruntime==1.32.*' 'numpy<2'
	@echo ".venv-triton is ready: $$(du -sh .venv-triton | cut -f1)"

triton-check: $(INSTALLED) triton ## the bundle's Triton repositories in a real tritonserver, and broken ones in our check
	@$(BIN)/python -m benchmarks.triton $(ARGS)

test: $(INSTALLED) ## all tests; PIPELINE_DATA_DIR names a folder with MNIST for those that need it
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-long: $(INSTALLED) ## the tests that `make test` leaves out: whole runs of tools, of several processes, of kills
	$(BIN)/python -m pytest -m long $(ARGS)

test-pythons: $(INSTALLED) ## a fast part of the tests on every other Python from 3.11 to 3.13 that is here, pyenv's too
	@bash .ci/pythons

torture: $(INSTALLED) ## thousands of faults, kills, damages and hostile files against a whole run (docs/reliability.md)
	@$(PIP) show --quiet atheris 2>/dev/null || $(PIP) install --quiet --constraint constraints.txt --editable '.[torture]'
	@$(BIN)/python -m benchmarks.torture $(ARGS)

gpu-check: $(INSTALLED) ## all that a GPU has to show, within 20 minutes, and a page; without one it says what it skips
	@$(BIN)/python -m benchmarks.gpu_check $(ARGS)

browser: $(INSTALLED) ## a Chromium for browser-test, where there is none: Debian's, or else Playwright's
	@test -n "$(BROWSER)" || { command -v apt-get >/dev/null && \
		$(SUDO) apt-get update --quiet --quiet && \
		$(SUDO) apt-get install --yes --quiet --quiet --no-install-recommends chromium >/dev/null; } || \
		$(BIN)/python -m playwright install chromium || { echo "No browser could be installed; install Chromium by hand."; exit 1; }

browser-test: browser ## the report's page in a headless browser; screenshots in build/screenshots/
	REQUIRE_BROWSER=1 $(BIN)/python -m pytest -m browser tests/report $(ARGS)

check: lint types test ## format, lint, types and tests

format: $(INSTALLED) ## rewrite the source in the project's format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(INSTALLED) ## format, lint and who imports whom, without changing anything
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

artifacts/README.md: $(wildcard pipeline/artifacts/*.py) $(INSTALLED) ## what every published file holds, from its model
	@mkdir -p $(@D)
	@$(BIN)/python -m pipeline.artifacts.documentation > $@.new && mv $@.new $@

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
