"""Model text as HTML: readable, and harmless."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from annotate import highlight, mathematics
from annotate.markdown import TAGS, to_html, to_text
from tests.hostile import FORMULAS, TEXTS

HARMLESS = {"href", "title", "start", "dir", "class", "rel", *(a for s in mathematics.ATTRIBUTES.values() for a in s)}
SCHEME = re.compile(r"\s*(?!https?:|mailto:)[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class Elements(HTMLParser):
    """Every element of a piece of HTML with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(text: str) -> list[tuple[str, dict[str, str | None]]]:
    return Elements(to_html(text)).found


def plain(text: str) -> str:
    """The HTML without what says in which direction a block is read."""
    return re.sub(' dir="[a-z]+"', "", to_html(text))


def test_markdown_becomes_html() -> None:
    assert plain("**bold** and `code`") == "<p><strong>bold</strong> and <code>code</code></p>\n"


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


@pytest.mark.parametrize("text", [*TEXTS, *FORMULAS])
def test_hostile_text_becomes_only_elements_and_attributes_of_the_list(text: str) -> None:
    for tag, attributes in elements(text):
        assert tag in TAGS | mathematics.TAGS
        assert set(attributes) <= HARMLESS
        assert set((attributes.get("class") or "").split()) <= highlight.CLASS_NAMES | {"wide"}
        assert not SCHEME.match(attributes.get("href") or "")


def test_an_image_loads_nothing() -> None:
    assert "<img" not in to_html("![seen](https://a.example/pixel.png)")


def test_a_link_leads_out_without_telling_where_from() -> None:
    assert plain("[x](https://a.example)") == '<p><a href="https://a.example" rel="noopener noreferrer">x</a></p>\n'


@pytest.mark.parametrize("formula", ["$a^2$", r"\(a^2\)"])
def test_a_formula_in_a_line_becomes_mathml(formula: str) -> None:
    drawn = '<math display="inline"><mrow><msup><mi>a</mi><mn>2</mn></msup></mrow></math>'
    assert plain(f"Let {formula} be.") == f"<p>Let {drawn} be.</p>\n"


@pytest.mark.parametrize("formula", ["$$a = b$$", "$$\na\n= b\n$$", "\\[\na = b\n\\]", r"\[ a = b \]"])
def test_a_formula_by_itself_stands_in_a_box_that_scrolls(formula: str) -> None:
    drawn = '<math display="block"><mrow><mi>a</mi><mo>=</mo><mi>b</mi></mrow></math>'
    assert plain(f"Before\n{formula}\nafter") == f'<p>Before</p>\n<div class="wide">{drawn}</div>\n<p>after</p>\n'


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10.",
        "Between $5-$10, or US$5 and US$6.",
        "5$ here, 6$ there",
        "echo $HOME and $PATH, $HOME/bin:$PATH",
        "A sign: $ and another $",
        r"\[sic\] and \[1\] and \(a remark\)",
        "`$x$` is code",
        "$$",
        "$ $",
    ],
)
def test_dollars_and_brackets_that_are_no_mathematics_stay_text(text: str) -> None:
    assert "<math" not in to_html(text)


@pytest.mark.parametrize("formula", [r"$\frac{a$", r"$\nonsense{x}$", "$" + "{" * 1500 + "$", r"$x^2_$"])
def test_a_broken_formula_shows_its_source(formula: str) -> None:
    assert to_text(f"So {formula} it is.").strip() == f"So {formula} it is."
    assert "<code>" in to_html(f"So {formula} it is.")


def test_code_is_coloured_by_classes_and_by_nothing_else() -> None:
    html = plain('```python\nif x: return "a"  # b\n```')
    assert '<span class="hl-keyword">if</span>' in html
    assert '<span class="hl-string">"a"</span>' in html
    assert '<span class="hl-comment"># b</span>' in html
    assert "style" not in html


def test_code_in_an_unknown_language_stays_plain() -> None:
    assert plain("```nonsense\nif x\n```") == "<pre><code>if x\n</code></pre>\n"


def test_beyond_a_length_code_stays_plain() -> None:
    long = "```python\n" + "if x: pass\n" * (highlight.LONGEST // 11 + 1) + "```"
    assert "<span" not in to_html(long)


def test_each_block_takes_its_direction_from_its_own_letters() -> None:
    html = to_html("مرحبا\n\nHello\n\n- שלום\n- Hello\n\n> عربي\n\n## عنوان")
    assert html.count('<p dir="auto">') == 2
    assert html.count('<li dir="auto">') == 2
    assert (
        '<blockquote dir="auto">\n<p>عربي</p>' in html
    )  # a direction on the paragraph would hide it from the quotation
    assert '<h2 dir="auto">' in html


def test_the_columns_of_a_table_run_in_the_direction_of_its_first_letter() -> None:
    assert '<div class="wide" dir="rtl"><table>' in to_html("| 1 كلمة | word |\n| - | - |\n| ا | b |")
    assert '<div class="wide" dir="ltr"><table>' in to_html("| word | كلمة |\n| - | - |\n| b | ا |")
    assert '<td dir="auto">' in to_html("| a |\n| - |\n| ا |")


def test_code_reads_from_left_to_right_in_every_language() -> None:
    assert to_html("```\nمرحبا\n```").startswith('<pre dir="ltr">')


def test_text_is_what_a_reader_sees() -> None:
    assert to_text("**a** < `b` and $x^2$\n\n- c").split() == ["a", "<", "b", "and", "x2", "c"]


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over *the* lazy dog. " * 1100,
        "$" * 50_000,
        "$$\n" * 16_000,
        "\\[\nx\n" * 10_000,
        "\\(" * 25_000,
        "$x_i^2$ " * 6_000,
        "```python\nx = {1: 'a'}\n```\n" * 2_000,
        "a|b\n-|-\n" + "x|y\n" * 10_000,
        "$" + "\\sqrt{" * 300 + "x" + "}" * 300 + "$",
    ],
    ids=["words", "dollars", "double dollars", "brackets", "parentheses", "formulas", "code", "table", "roots"],
)
def test_fifty_thousand_characters_take_a_second_or_two_at_most_whatever_they_are(text: str) -> None:
    start = time.process_time()
    to_html(text)
    assert time.process_time() - start < 3
