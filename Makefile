#: make demo   talk to an agent on Ray, end to end    (DEMO_ARGS=--json, --keep, ...)
#: make test   lint, types and every test             (TEST_ARGS="-k channel", ...)
#: make soak   1,000 jobs and 300 calls on end      (SOAK_ARGS="jobs --jobs 100", ...)
#: make bench  compare with the stock worker          (BENCH_ARGS=...)
#: make bench-burst   20 rooms at once, and on a busy machine   (BENCH_ARGS=...)
#: make bench-placement  what a decision costs as the fleet grows  (BENCH_ARGS=...)
#: make bench-inference  shared inference beside in-process and stock  (BENCH_ARGS=--small, ...)
#: make bench-answers  answers to a burst of offers, beside the stock worker's
#: make bench-replica-loss  callers while inference replicas are killed and frozen
#: make bench-stt-memory  memory of calls with local speech to text, beside the stock worker's
#: make PYTHON=/path/to/python ...  sets up with that Python (3.11 to 3.13)

SHELL := /bin/sh
BIN := .venv/bin
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
SOAK_ARGS ?=
PYTHON ?=

# Without bytecode caches every process compiles every module anew: Ray starts twice as slow.
unexport PYTHONDONTWRITEBYTECODE
# A shell's own Python packages must not get in front of the locked ones.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup livekit demo test lint types pytest bench soak bench-burst bench-placement bench-answers bench-inference bench-replica-loss bench-stt-memory lock clean

help:
	@sed -n 's/^\#: //p' Makefile

# Takes a fraction of a second once it was done: the stamp in .venv tells.
setup:
	@python=$$(PYTHON="$(PYTHON)" ./scripts/find_python.sh) && "$$python" scripts/setup_venv.py

livekit: setup
	@$(BIN)/python scripts/provision_livekit.py

demo: setup
	@$(BIN)/voxray demo $(DEMO_ARGS)

test: lint types pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy voxray

pytest: livekit
	$(BIN)/pytest -n 2 $(TEST_ARGS)

bench: livekit
	$(BIN)/python -m benchmarks.first_light $(BENCH_ARGS)

bench-burst: livekit
	$(BIN)/python -m benchmarks.burst $(BENCH_ARGS)

bench-placement: setup
	$(BIN)/python -m benchmarks.placement_at_scale $(BENCH_ARGS)

bench-inference: setup
	$(BIN)/python -m benchmarks.inference $(BENCH_ARGS)

bench-answers: setup
	$(BIN)/python -m benchmarks.answer_time $(BENCH_ARGS)

bench-replica-loss: setup
	$(BIN)/python -m benchmarks.replica_loss $(BENCH_ARGS)

bench-stt-memory: livekit
	$(BIN)/python -m benchmarks.stt_memory $(BENCH_ARGS)

soak: livekit
	$(BIN)/python -m tests.soak $(SOAK_ARGS)

# The newest versions that pyproject.toml allows, for every platform and Python, with hashes.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra openai --extra whisper --extra piper --extra edge --group dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --quiet \
	  -o requirements.lock

clean:
	rm -rf .venv .voxray .mypy_cache .ruff_cache .pytest_cache .hypothesis dist demo.wav
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
