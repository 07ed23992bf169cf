# make            .venv with everything the tests, the demo and the checks need (again only when something changed)
# make test       the tests                    make demo    a real corpus, five models, one table, one report
# make lint       style, types, floors         make bench   the benchmarks (installs the peers they compare with)
# make docs       the documentation in site/   make format  rewrite the code in the house style
#
# PYTHON=python3.12 chooses the interpreter, TORCH_BACKEND=cpu|cu130|auto the build of PyTorch,
# BENCH="startup ngram" the benchmarks.

BIN := .venv/bin
BENCH ?= $(sort $(basename $(notdir $(wildcard benchmarks/[a-z]*.py))))
export PYTHON CONSTRAINTS TORCH_BACKEND

.PHONY: install test test-slow lint format demo bench docs clean

install: .venv/.stamp-dev .venv/.stamp-tried-kenlm

# The stamp's name holds the extras, so that asking for more extras installs them and asking again does nothing.
.venv/.stamp-%: pyproject.toml constraints.txt .ci/install
	.ci/install $*
	@touch $@

# Built from source, so it may fail where cmake or g++ is missing. With pip, which keeps the wheel it built; uv builds anew.
.venv/.stamp-tried-kenlm: .venv/.stamp-dev
	@$(BIN)/python -c 'import kenlm' 2>/dev/null \
		|| { echo 'building kenlm (a minute)' && $(BIN)/python -m pip install --quiet --constraint constraints.txt kenlm; } \
		|| echo 'kenlm could not be built (it needs cmake and g++): the tests that compare with it are skipped'
	@touch $@

# The same of llama.cpp, which takes ten minutes on two cores and is only measured against.
.venv/.stamp-tried-llama-cpp: .venv/.stamp-dev,bench
	@$(BIN)/python -c 'import llama_cpp' 2>/dev/null \
		|| { echo 'building llama-cpp-python (ten minutes)' && $(BIN)/python -m pip install --quiet llama-cpp-python; } \
		|| echo 'llama-cpp-python could not be built (it needs cmake and g++): decode_speed leaves it out'
	@touch $@

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install
	$(BIN)/python -m genus demo

bench: .venv/.stamp-dev,bench .venv/.stamp-tried-kenlm .venv/.stamp-tried-llama-cpp
	@for name in $(BENCH); do echo "== $$name" && $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: install
	$(BIN)/zensical build --strict

clean:
	rm -rf .venv site build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
