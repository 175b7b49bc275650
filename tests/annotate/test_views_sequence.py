"""The table and the chart of a comparison's looks, on the gate's report."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.annotate.compared import Compared, compared

pytestmark = pytest.mark.django_db


def show(client: Client, made: Compared) -> str:
    client.force_login(made.stage.alice)
    return client.get(reverse("gate", args=["garden", 1])).content.decode()


def looks(html: str) -> list[tuple[str, ...]]:
    """The rows of the table of looks."""
    table = html[html.index(">Prompts in<") :]
    cell = '<td class="figure">([^<]*)</td>'
    return re.findall(f"<tr>{3 * cell}</tr>", table[: table.index("</table>")])


def drawn(html: str) -> dict[str, Any]:
    """What the chart is given."""
    found = re.search('data-sequence="([^"]*)"', html)
    assert found is not None
    return dict(json.loads(unescape(found[1])))


def test_table_and_chart_have_the_mean_after_each_prompt_and_a_tie_counts_half(client: Client) -> None:
    made = compared(number=4)
    for outcome in (1.0, 0.5, 0.0, 1.0):
        made.judge(made.stage.bob, outcome)
    html = show(client, made)
    assert [row[:2] for row in looks(html)] == [("1", "100.0%"), ("2", "75.0%"), ("3", "50.0%"), ("4", "62.5%")]
    assert drawn(html)["x"] == [1, 2, 3, 4]
    assert drawn(html)["y"] == [1.0, 0.75, 0.5, 0.625]
    assert (drawn(html)["line"], drawn(html)["share"]) == (0.5, True)


def test_table_and_chart_have_the_bounds_after_each_prompt(client: Client) -> None:
    # Four wins of four planned, by hand. The gambler against m bets √(2 ln 40 / (¼ · 4)) = 2.716 on the first prompt
    # and √(2 ln 40 / (5/32 · 4)) = 3.436 on the second, but at most ½ / m, and needs 40. After two wins it has at most
    # 3.716 · 4.436 = 16.5. After three: (1 + 2.716 (1 − m)) (½ + ½/m)² is 40.05 at m = 0.1665 and 39.83 at 0.1670, so
    # that it is 40 at 0.1666. After four: (½ + ½/m)⁴ is 40 at m = ½ / (⁴√40 − ½) = 0.24816.
    made = compared(number=4)
    for _n in range(4):
        made.judge(made.stage.bob)
    html = show(client, made)
    bounds = [row[2] for row in looks(html)]
    assert bounds == ["0.0% – 100.0%", "0.0% – 100.0%", "16.7% – 100.0%", "24.8% – 100.0%"]
    assert drawn(html)["low"] == [0, 0, 0.1666, 0.2482]
    assert drawn(html)["high"] == [1, 1, 1, 1]


def test_a_long_table_has_twelve_looks_and_the_chart_all(client: Client) -> None:
    made = compared(number=25, prompts=75)
    for _n in range(25):
        made.judge(made.stage.bob)
    html = show(client, made)
    # From 1 to 25 by 24/11, rounded down.
    assert [int(row[0]) for row in looks(html)] == [1, 3, 5, 7, 9, 11, 14, 16, 18, 20, 22, 25]
    assert drawn(html)["x"] == list(range(1, 26))


def test_one_prompt_is_no_chart(client: Client) -> None:
    made = compared(number=2)
    made.judge(made.stage.bob)
    html = show(client, made)
    assert "data-sequence" not in html
    assert looks(html) == [("1", "100.0%", "0.0% – 100.0%")]
