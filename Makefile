# make study [PRESET=smoke|default|full]   time, measure error, render the report
# make test                                all tests
# make lint                                ruff and pyright
PYTHON ?= python3
VENV ?= .venv
PRESET ?= default

# Idle OpenMP threads sleep instead of spinning; see README, "A shared machine".
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: study test lint clean

study: $(VENV)/.study
	$(VENV)/bin/python -m analysis study --preset $(PRESET)

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile

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

clean:
	rm -rf $(VENV) .asv study build *.egg-info
