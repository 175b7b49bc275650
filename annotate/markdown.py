"""Markdown to safe HTML: nothing that a model or a person wrote can run, load or restyle anything.

Each block takes its direction from its own first letters, so that Arabic and Hebrew stand right beside
other languages. What may be wider than its column (tables, formulas) scrolls in a box of its own.
"""

from __future__ import annotations

import html
import unicodedata
from typing import Any

import nh3
from django.utils.html import strip_tags
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from annotate import highlight, mathematics

TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "span"),
    *("em", "strong", "s", "a", "table", "thead", "tbody", "tr", "th", "td", "div"),
}
DIRECTED = ("p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "blockquote", "th", "td")

_cleaner = nh3.Cleaner(
    tags=TAGS | mathematics.TAGS,
    attributes={"a": {"href", "title"}, "ol": {"start"}, **mathematics.ATTRIBUTES},
    tag_attribute_values={
        **{tag: {"dir": {"auto"}} for tag in DIRECTED},
        "div": {"dir": {"ltr", "rtl"}},
        "pre": {"dir": {"ltr"}},
    },
    allowed_classes={"span": set(highlight.CLASS_NAMES), "div": {"wide"}},
    url_schemes={"http", "https", "mailto"},
)


def to_html(text: str) -> SafeString:
    """Render Markdown; HTML in the text is shown as text, and images as links to them."""
    return mark_safe(_cleaner.clean(_parser.render(text)))


def to_text(text: str) -> str:
    """What a reader of the rendered Markdown sees: its letters without its marks, not to be shown as HTML."""
    return html.unescape(strip_tags(to_html(text)))


def _directions(state: StateCore) -> None:
    """Mark blocks with ``dir="auto"``: what has a direction of its own is passed over by the blocks around it.

    So a paragraph in a list item or a quotation has none, or its container would find no letters.
    """
    containers: list[str] = []
    for index, token in enumerate(state.tokens):
        if token.nesting == 1:
            inner = token.type == "paragraph_open" and containers and containers[-1] in ("li", "blockquote")
            if token.tag in DIRECTED and not inner:
                token.attrSet("dir", "auto")
            if token.type == "table_open":
                token.meta["dir"] = _direction(_letters(state.tokens, index))
            containers.append(token.tag)
        elif token.nesting == -1:
            containers.pop()


def _letters(tokens: list[Token], start: int) -> str:
    """The texts of a table's cells."""
    texts = []
    for token in tokens[start:]:
        if token.type == "table_close":
            break
        texts.append(token.content)
    return " ".join(texts)


def _direction(text: str) -> str:
    """The direction of the first letter that has one (Unicode Standard Annex 9, rule P2)."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def _fence(_renderer: RendererHTML, tokens: list[Token], index: int, _options: Any, env: dict[str, Any]) -> str:
    token = tokens[index]
    env["highlighted"] = env.get("highlighted", 0) + len(token.content)
    plain = env["highlighted"] > highlight.LONGEST
    language = token.info.strip().split(maxsplit=1)[0] if token.info.strip() else ""
    code = escapeHtml(token.content) if plain else highlight.highlight(token.content, language)
    return f'<pre dir="ltr"><code>{code}</code></pre>\n'


def _code_block(_renderer: RendererHTML, tokens: list[Token], index: int, _options: Any, _env: dict[str, Any]) -> str:
    return f'<pre dir="ltr"><code>{escapeHtml(tokens[index].content)}</code></pre>\n'


def _table_open(_renderer: RendererHTML, tokens: list[Token], index: int, _options: Any, _env: dict[str, Any]) -> str:
    return f'<div class="wide" dir="{tokens[index].meta["dir"]}"><table>\n'


def _table_close(
    _renderer: RendererHTML, _tokens: list[Token], _index: int, _options: Any, _env: dict[str, Any]
) -> str:
    return "</table></div>\n"


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.disable("image").use(mathematics.mathematics)
    parser.core.ruler.push("directions", _directions)
    rules = {"fence": _fence, "code_block": _code_block, "table_open": _table_open, "table_close": _table_close}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


_parser = _make_parser()
