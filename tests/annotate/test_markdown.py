"""Model text as HTML: readable, and harmless."""

from __future__ import annotations

import pytest

from annotate.markdown import to_html


def test_markdown_becomes_html() -> None:
    assert to_html("**bold** and `code`") == "<p><strong>bold</strong> and <code>code</code></p>\n"


def test_a_line_break_of_the_model_stays_one() -> None:
    assert "one<br>" in to_html("one\ntwo")


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<style>body{display:none}</style>",
        '<a href="https://a.example" style="position:fixed">x</a>',
    ],
)
def test_nothing_in_a_text_can_run_or_restyle(text: str) -> None:
    html = to_html(text)
    assert "<script" not in html
    assert "<img" not in html
    assert "<style" not in html
    assert "<a " not in html


def test_an_image_loads_nothing() -> None:
    assert "<img" not in to_html("![seen](https://a.example/pixel.png)")


def test_a_link_leads_out_without_telling_where_from() -> None:
    assert to_html("[x](https://a.example)") == '<p><a href="https://a.example" rel="noopener noreferrer">x</a></p>\n'
