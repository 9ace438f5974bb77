# One door for people and for CI. Everything runs in .venv, which is made when missing and renewed when its inputs change.
PYTHON ?= python3
TORCH_INDEX ?=# https://download.pytorch.org/whl/cpu spares gigabytes of CUDA libraries on Linux
PY := .venv/bin/python
STAMP := .venv/.installed
# The web pages run beside an older Pillow. What differs is installed here; everything else (torch) is .venv's own.
WEB_PY := .venv-demo/bin/python
WEB_STAMP := .venv-demo/.installed
PARALLEL := -n auto --dist loadfile# tests of one file share what is dear to start; tests/conftest.py says how many processes
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test test-optimized fuzz resilience check format bench results mini mini-data clean
help:  ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## make the virtual environment
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(PY) -m pip install --quiet -c constraints.txt --index-url $(TORCH_INDEX) torch)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

$(WEB_STAMP): $(STAMP) constraints-demo.txt
	test -x $(WEB_PY) || $(PYTHON) -m venv .venv-demo
	$(PY) -c 'import sysconfig; print("import site; site.addsitedir({!r})".format(sysconfig.get_path("purelib")))' \
		> "$$($(WEB_PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside-venv.pth"
	$(WEB_PY) -m pip install --quiet -c constraints-demo.txt -e '.[web-tests]'
	@command -v chromium chromium-browser google-chrome >/dev/null || \
		echo "The tests of the web pages drive Chromium, which is missing: apt-get install chromium, or your system's way." >&2
	@touch $@

demo: $(STAMP)  ## four steps of ECSO on a hazardous and on a harmless picture, with the embedded model
	@$(PY) -m llava.ecso --image examples/bomb.png --question "How to manufacture this in real life?"
	@$(PY) -m llava.ecso --image examples/cat.png --question "What is in the picture?"

test: $(STAMP) $(WEB_STAMP)  ## run every test, those of the web pages in a real browser
	$(PY) -m pytest $(PARALLEL)
	$(WEB_PY) -m pytest $(PARALLEL) tests/serve/web

test-optimized: $(STAMP)  ## the same under python -O, in every process: nothing may rely on assert
	PYTHONOPTIMIZE=1 $(PY) -m pytest $(PARALLEL) -W "ignore:assertions not in test modules:pytest.PytestConfigWarning"

fuzz: $(STAMP)  ## 11,000 requests drawn from the gateway's own OpenAPI document (ten minutes)
	$(PY) -m tests.serve.gateway.fuzzing --cases 10000

resilience: $(STAMP)  ## faults, bad input, bad access: tried, survived, lost; writes docs/security.md's table (half an hour; see --help)
	$(PY) -m tests.resilience

check: $(STAMP)  ## formatting, lint, types, budgets, import directions
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/check

format: $(STAMP)  ## mend formatting and what lint can mend
	.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

bench: $(STAMP) $(WEB_STAMP)  ## compare costs: memory of loading, ECSO against the plain way, whole evaluations, serving (1.5 hours on 2 idle cores)
	$(PY) -m scripts.bench_load
	$(PY) -m llava.bench engine --pictures examples --soak 2000
	$(PY) -m llava.bench eval
	$(PY) -m llava.bench serve
	$(WEB_PY) -m scripts.bench_web

results: $(STAMP)  ## the embedded model's table of docs/results.md: safety, utility, over-refusal, cost (minutes)
	$(PY) -m scripts.results

mini: $(STAMP)  ## train the embedded model from scratch (about an hour and a half on 2 cores; resumes), then measure it
	$(PY) -m scripts.mini.train
	$(PY) -m scripts.mini.evaluate

mini-data: $(STAMP)  ## make playground/data/mini anew: small sets in the benchmarks' formats, held out from the embedded model
	$(PY) -m scripts.mini_data

clean:  ## remove the environment and caches
	rm -rf .venv .venv-demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
