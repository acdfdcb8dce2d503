# `make self-learn` and `make test` are all that a new user needs: each creates .venv, installs and runs.
# PYTHON=/path/to/python3.11 chooses the interpreter; ARGS="--preset tiny" goes to the script or to pytest.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
# A test that stands still: after four minutes it is told where each of its threads is, after ten its process is ended.
STANDSTILL := -o faulthandler_timeout=240 --timeout 600 --timeout-method thread --max-worker-restart 0
PYTHON ?= python3.11 python3.12 python3
SUITABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))

.PHONY: self-learn test slow soak dds-soak lint benchmarks wheel-test install clean

self-learn: $(STAMP)
	$(BIN)/python agents/self_learn.py $(ARGS)

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -x -q -n $(JOBS) --dist loadscope $(STANDSTILL) $(ARGS)

slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow $(ARGS)

soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(ARGS)

dds-soak: $(STAMP)
	$(BIN)/python benchmarks/dds_soak.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/step_rate.py
	$(BIN)/python benchmarks/vector_rate.py
	$(BIN)/python benchmarks/sensors.py
	$(BIN)/python benchmarks/neonbench.py
	$(BIN)/python benchmarks/neonbench.py --experts
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/dds_loop.py
	$(BIN)/python benchmarks/forward.py
	$(BIN)/python benchmarks/parameter_table.py
	$(BIN)/python benchmarks/feature_cache.py
	$(BIN)/python benchmarks/foundation.py
	$(BIN)/python benchmarks/known_ground.py
	$(BIN)/python benchmarks/ewc_step.py
	$(BIN)/python benchmarks/forgetting_inference.py

# -qq keeps this run's one line from being read as the summary of the whole test suite.
wheel-test: $(STAMP)
	$(BIN)/python -m pytest -x -qq -m wheel tests/test_wheel.py
	@echo "wheel: built, installed in a clean environment and stepped"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile | $(BIN)/pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[train,vla,data,real,speech,onnx,pusht,dev]'
	@touch $@

$(BIN)/pip:
	@for python in $(PYTHON); do \
	  if $$python -c '$(SUITABLE)' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python -V); the first installation takes a few minutes"; \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "neon_sim needs Python 3.11 or 3.12 with the venv module; none found among: $(PYTHON)." >&2; \
	echo "Debian, Ubuntu: sudo apt install python3-venv. Elsewhere: make PYTHON=/path/to/python3.11 test" >&2; \
	exit 1

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find neon_sim agents benchmarks scripts real tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
