"""The walls between the web application and the two packages that hold torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "vllm", "transformers", "peft"}


def modules_of(package: str) -> list[str]:
    """The importable modules of a package, by dotted name."""
    files = (ROOT / package).rglob("*.py")
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


def loaded_by(*modules: str) -> set[str]:
    """Top-level modules in memory after a fresh interpreter imported some."""
    lines = ["import django, sys", "django.setup()" if "annotate.urls" in modules else ""]
    lines += [f"import {module}" for module in modules]
    lines.append("print(*{name.split('.')[0] for name in sys.modules})")
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "annotate.settings"}
    if "annotate.urls" not in modules:
        lines[0] = "import sys"
        del environment["DJANGO_SETTINGS_MODULE"]
    program = "\n".join(lines)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports would hide what this test looks for"
            found.add((node.module or "").split(".")[0])
    return found


def test_the_site_and_its_tasks_load_no_torch():
    assert not HEAVY & loaded_by("annotate.urls", "annotate.asgi", "annotate.tasks", "annotate.celery")


@pytest.mark.parametrize("package", ["rewardmodel", "policy"])
def test_training_packages_load_no_django(package: str):
    assert not {"django", "annotate", "celery"} & loaded_by(*modules_of(package))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("rewardmodel", {"django", "annotate", "policy"}),
        ("policy", {"django", "annotate"}),
        ("annotate", HEAVY),
        ("annotate/stats", {"django", "annotate.models"}),
    ],
)
def test_no_module_imports_across_a_wall(package: str, forbidden: set[str]):
    crossings = {
        str(file.relative_to(ROOT)): crossed
        for file in (ROOT / package).rglob("*.py")
        if (crossed := imported_packages(file) & forbidden)
    }
    assert not crossings
