# The commands of the README. Each sets up .venv where it is missing or where what it holds has changed.
#
#   make demo    compile every example, run one on a real text, compare with the step-by-step form;
#                BACKEND=triton runs the Triton kernels, without a GPU through Triton's interpreter
#   make test    the whole suite, on two workers
#   make faults  every fault that is generated in chunk programs, put to the certificate; the suite takes one in twelve
#   make lint    ruff, mypy and the import contract alone
#   make kill    writers of modules killed at 200 random moments
#   make fuzz-front
#                parser, checker and reader of functions under coverage-guided fuzzing, RUNS inputs each
#   make gpu     on a machine with a GPU: is it right, is it fast; one report, benchmarks/results/gpu/report.html.
#                GPU_ARGS="--only bench --ops kda,gla --budget 10", "--tiny" without a GPU
#   make ship    kernels and the peer's package for `make gpu` to carry along, without a GPU; SHIP_ARGS="--ops kda"
#   make peers   .venv-peers, with the library that benchmarks/cpu.py compares with
#   make fla     .venv-fla, with flash-linear-attention's ops, which benchmarks/compare_peer.py compares with
#   make triton-matrix
#                the modules of tests/golden through every Triton that is supported, for four devices; 3 GB of packages
#
# PYTHON names an interpreter (3.11 - 3.13); PIP_ARGS is handed to pip, as in
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# which takes the CPU build of torch where pip's own configuration has none.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
PIP_ARGS ?=
RUNS ?= 1000000
TRITONS ?= 3.6.0 3.7.1 3.8.0 3.9.0
TEST_ARGS ?=
BACKEND ?= torch
GPU_ARGS ?=
SHIP_ARGS ?=

# torch's threads and pytest's workers would otherwise compete for the same cores, which costs a factor of 50.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test faults lint kill fuzz-front gpu ship peers fla triton-matrix clean

demo: .venv/.installed
	@.venv/bin/python benchmarks/demo.py --backend $(BACKEND)

# The suite sets Triton's interpreter where it wants it, and compiles offline elsewhere.
test: .venv/.installed
	env -u TRITON_INTERPRET .venv/bin/python -m pytest -n 2 --dist worksteal $(TEST_ARGS)

faults: .venv/.installed
	FLOWC_ALL_FAULTS=1 .venv/bin/python -m pytest -n 2 tests/certify/test_program_faults.py $(TEST_ARGS)

lint: .venv/.installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

kill: .venv/.installed
	FLOWC_KILLED=200 .venv/bin/python -m pytest -q tests/runtime/test_cache.py

fuzz-front: .venv-fuzz/.installed
	@for kind in text function; do \
		PYTHONPATH=.:.venv-fuzz .venv/bin/python benchmarks/fuzz_front.py $$kind --runs $(RUNS) \
			--json benchmarks/results/fuzz-$$kind.json || exit 1; \
	done

.venv-fuzz/.installed: .venv/.installed
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps --upgrade --target .venv-fuzz atheris==3.0.0 coverage
	touch $@

gpu: .venv/.installed
	@.venv/bin/python benchmarks/on_gpu.py $(GPU_ARGS)

ship: .venv/.installed .gpu-peer/.installed
	@.venv/bin/python benchmarks/ship.py $(SHIP_ARGS)

.gpu-peer/.installed: .venv/.installed benchmarks/fla.txt
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps --upgrade --target .gpu-peer $(shell grep -E '^(fla-core|einops|packaging)' benchmarks/fla.txt)
	touch $@

peers: .venv-peers/.installed

fla: .venv-fla/.installed

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 - 3.13 found: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

.venv-peers/.installed: constraints.txt benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -r benchmarks/peers.txt
	touch $@

.venv-fla/.installed: constraints.txt benchmarks/fla.txt
	$(PYTHON) -m venv .venv-fla
	.venv-fla/bin/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -r benchmarks/fla.txt
	touch $@

triton-matrix: $(TRITONS:%=.venv-triton-%/.installed)
	@for version in $(TRITONS); do \
		PYTHONPATH=.venv-triton-$$version .venv/bin/python benchmarks/kernels.py --golden \
			--json benchmarks/results/triton-$$version.json || exit 1; \
	done

.venv-triton-%/.installed: .venv/.installed
	.venv/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps --upgrade --target .venv-triton-$* triton==$*
	touch $@

clean:
	rm -rf .venv .venv-peers .venv-fla .venv-fuzz .venv-triton-* .gpu-cache .gpu-peer build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
