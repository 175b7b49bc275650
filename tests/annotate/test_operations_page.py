"""docs/operations.md says what there is: every variable, every figure, and only those."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from annotate import environment
from annotate.observe.metrics import scrape

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
OF_OTHERS = {"FORWARDED_ALLOW_IPS"}
"""Read by uvicorn."""


def read_by_code() -> Iterator[str]:
    """Names of environment variables that Hone's own code reads."""
    readers = {name for name in vars(environment) if not name.startswith("_")}
    for package in ("annotate", "policy", "rewardmodel", "tools"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and re.fullmatch(r"HONE_[A-Z_]+", str(node.value)):
                    yield str(node.value)
                if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                    continue
                called = ast.unparse(node.func)
                if called.removeprefix("environment.") in readers and called.startswith("environment."):
                    yield str(node.args[0].value)
                if called == "os.environ.get":
                    yield str(node.args[0].value)


def test_every_variable_that_is_read_is_in_the_table_and_no_other():
    table = PAGE.split("## Settings")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))
    read = set(read_by_code()) | OF_OTHERS
    assert documented - read == set()
    assert read - documented == set()
    assert "HONE_DATA_DIR" in read


@pytest.mark.django_db
def test_every_figure_is_in_the_table_and_in_the_rules_only_such():
    named = set(re.findall(r"\bhone_[a-z_]+", PAGE))
    body, _type = scrape("text/plain")
    there = {family.name for family in text_string_to_metric_families(body.decode())}
    suffixes = re.compile(r"_(total|bucket|count|sum)$")
    assert {suffixes.sub("", name) for name in named} == {suffixes.sub("", name) for name in there}
