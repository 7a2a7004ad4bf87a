# make study [PRESET=smoke|default|full]   time, measure error, render the report
# make test                                all tests
# make test-isa                            the numerical tests under SSE4.1, and under AVX2 where there is more
# make test-timm                           models of timm, which it installs, against timm's own re-parametrisation
# make test-runtimes                       convolutions by ONNX Runtime and JAX, which it installs
# make lint                                ruff and pyright
PYTHON ?= python3
VENV ?= .venv
PRESET ?= default

# Idle OpenMP threads sleep instead of spinning; see README, "A shared machine".
export OMP_WAIT_POLICY ?= PASSIVE

# Tests start some hundred processes, and each would compile all that it imports anew.
test test-isa test-timm test-runtimes: export PYTHONDONTWRITEBYTECODE =

.PHONY: study test test-isa test-timm test-runtimes lint clean

study: $(VENV)/.study
	$(VENV)/bin/python -m analysis study --preset $(PRESET)

# One thread each; on two cores, the third process computes while another waits for one that it started.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 3 --dist loadfile

# Read when torch is imported: what an older processor's libraries would choose, on any x86.
SSE41 = ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2
AVX2 = ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2
NUMERICAL = $(VENV)/bin/python -m pytest --quiet --numprocesses 2 --dist loadfile -m numerical --hypothesis-profile=brief

test-isa: $(VENV)/.test
	$(SSE41) OMP_NUM_THREADS=1 $(NUMERICAL)
	if grep -q avx512f /proc/cpuinfo; then $(AVX2) $(NUMERICAL); fi

test-timm: $(VENV)/.timm
	$(VENV)/bin/python -m pytest --quiet tests/test_timm.py

test-runtimes: $(VENV)/.runtimes
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --quiet tests/test_runtimes.py

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.study: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[analysis]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

# Without what they depend on, which would be another torch.
$(VENV)/.timm: $(VENV)/.test
	$(VENV)/bin/python -m pip install --quiet --no-deps -c constraints.txt timm torchvision huggingface_hub safetensors
	touch $@

$(VENV)/.runtimes: $(VENV)/.test
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt onnxruntime onnx jax
	touch $@

clean:
	rm -rf $(VENV) .asv study build *.egg-info
