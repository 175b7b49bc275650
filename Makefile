# Every command of the project. README.md says what each is for.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
MANAGE = .venv/bin/python manage.py

.PHONY: demo setup test bench study drill screenshots clean-data lock

# exec, so that Ctrl-C and SIGTERM reach the site itself.
demo: setup
	@exec $(MANAGE) demo

setup:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is missing: install it (apt-get install python3.11)." >&2; exit 1; }
	@$(PYTHON) tools/setup.py

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: setup
	@test -n "$(AREA)" || { echo "error: say what to measure: make bench AREA=web" >&2; exit 1; }
	@.venv/bin/python -m tests.bench $(AREA)

study: setup
	@test -n "$(AREA)" || { echo "error: say what to study: make study AREA=policy" >&2; exit 1; }
	@.venv/bin/python -m tests.study $(AREA)

drill: setup
	@.venv/bin/python -m tests.drill $(DRILL)

screenshots: setup
	@.venv/bin/python -m tests.screenshots

clean-data:
	@$(MANAGE) clean_data

lock: setup
	@.venv/bin/python tools/lock.py
