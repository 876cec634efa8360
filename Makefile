# irl_ros without a workspace: `make demo` runs the whole job, `make test` the tests; both set up .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

VENV ?= .venv
# Where a ROS distribution is sourced its own rclpy is used; else the wheels of one.
DISTRIBUTION := $(shell [ -n "$${ROS_DISTRO:-}" ] && python3 -c 'import rclpy' 2>/dev/null && echo "$$ROS_DISTRO")
READY := $(VENV)/.ready-$(or $(DISTRIBUTION),wheels)
PYTEST = $(VENV)/bin/python -m pytest -q --numprocesses 2 --dist loadgroup
PIP = $(VENV)/bin/python -m pip install --constraint constraints.txt
ROS_WHEELS := ros-kilted-rclpy ros-rmw-fastrtps-cpp ros-std-msgs ros-sensor-msgs ros-geometry-msgs \
	ros-trajectory-msgs ros-diagnostic-msgs ros-visualization-msgs ros-nav-msgs ros-std-srvs

# Small networks and many processes: one thread each is fastest.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help setup demo test test-full docs clean

help:
	@echo "make demo       record, train, deploy and report in simulation; the run lies in runs/demo"
	@echo "                OUT=<dir> SEED=<n> METHOD=<name> TASK=<name> ROBOT=<name> DEMONSTRATIONS=<n>"
	@echo "make test       the tests (under 12 minutes on 2 cores)"
	@echo "make test-full  the long tests too"
	@echo "make docs       the documentation as HTML in build/docs"
	@echo "make setup      the virtual environment in $(VENV), which the other targets make when it is missing"
	@echo "make clean      remove build outputs (not $(VENV), not runs/)"

setup: $(READY)

demo: $(READY)
	@$(VENV)/bin/irl_ros demo $(if $(OUT),--out "$(OUT)") $(if $(SEED),--seed $(SEED)) \
		$(if $(METHOD),--method $(METHOD)) $(if $(TASK),--task $(TASK)) $(if $(ROBOT),--robot $(ROBOT)) \
		$(if $(DEMONSTRATIONS),--demonstrations $(DEMONSTRATIONS))

test: $(READY)
	@$(PYTEST) -m "not full"

test-full: $(VENV)/.docs
	@$(PYTEST)

docs: $(VENV)/.docs
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs build/docs
	echo "build/docs/index.html"

$(VENV)/.docs: $(READY)
	@$(PIP) --quiet --no-build-isolation --editable '.[docs]'
	touch $@

clean:
	rm -rf build install log *.egg-info .pytest_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

$(READY): constraints.txt setup.py
	@python=
	for candidate in $(or $(PYTHON),$(if $(DISTRIBUTION),python3,python3.11 python3.10 python3)); do
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
			python=$$candidate
			break
		fi
	done
	if [ -z "$$python" ]; then
		echo "error: no Python 3.10 or newer found; install python3.11 with its venv module, or say PYTHON=<path>" >&2
		exit 1
	fi
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	echo "Setting up $(VENV) with Python $$version and ROS 2 from $(or $(DISTRIBUTION),wheels) (a few minutes, once)"
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
		echo "pybullet has no wheel for Python $$version: it will be compiled from source, about 7 minutes more" \
			"and a C++ compiler needed. Python 3.11 or 3.10 avoids that: make PYTHON=python3.11"
	fi
	if [ "$$version" != "$$($(VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" ] ||
		[ -n "$$(find $(VENV) -maxdepth 1 -name '.ready-*' -not -name '$(notdir $@)')" ]; then
		rm -rf $(VENV)  # of another Python or another ROS
	fi
	if ! "$$python" -m venv $(if $(DISTRIBUTION),--system-site-packages) $(VENV); then
		echo "error: $$python has no working venv module; on Debian and Ubuntu: apt install python$$version-venv" >&2
		exit 1
	fi
	# torch first and exactly: a resolver left to choose may take the newest build and gigabytes of CUDA packages.
	echo "1/3 torch"
	$(PIP) --quiet torch==2.13.0 setuptools wheel
	echo "2/3 $(if $(DISTRIBUTION),numpy,ROS 2)"
	$(PIP) --quiet $(if $(DISTRIBUTION),,$(ROS_WHEELS)) numpy
	echo "3/3 simulation, learning, bags"
	$(PIP) --quiet --no-build-isolation --editable '.[test]'
	touch $@
