r"""LaTeX in Markdown as MathML, which browsers draw by themselves: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]``.

What cannot be converted is shown as it was written. Left out: environments outside of such marks, and
macros of one's own.
"""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

TAGS = {
    *("math", "mrow", "mi", "mn", "mo", "mtext", "ms", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mprescripts", "mphantom"),
    *("menclose", "mtable", "mtr", "mtd"),
}
ATTRIBUTES = {
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "form", "lspace", "rspace", "minsize", "maxsize", "separator", "accent"},
    "mfrac": {"linethickness"},
    "mover": {"accent"},
    "munder": {"accentunder"},
    "menclose": {"notation"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mspace": {"width", "linebreak"},
    "mtable": {"columnalign", "rowspacing", "columnspacing", "displaystyle"},
    "mtd": {"columnalign"},
}

LONGEST = 2_000
"""Characters of a formula."""
MOST = 20_000
"""Characters of all formulas of a text; the conversion takes about 10 µs for each."""
MOST_LINES = 60
"""Of a formula that stands by itself."""
DEEPEST = 60
"""Elements within elements."""

CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
CLOSERS = {"$$": "$$", r"\[": r"\]", r"\(": r"\)", "$": "$"}
LATEX = re.compile(r"[\\^_={}+\-*/<>|]")
NAME = re.compile(r"\s*[A-Za-z]\w?'*\s*")


def mathematics(markdown: MarkdownIt) -> None:
    """Markdown-it plugin: formulas become tokens ``formula`` and ``formula_block``, and those MathML."""
    markdown.inline.ruler.before("escape", "formula", _inline)
    markdown.block.ruler.before(
        "fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    markdown.add_render_rule("formula", _render)
    markdown.add_render_rule("formula_block", _render)


def to_mathml(latex: str, *, block: bool) -> str | None:
    """A formula as MathML, or None where it is broken or uses what is not known.

    :param latex: without the marks around it.
    :param block: whether it stands by itself.
    """
    try:
        formula = convert_to_element(latex, display="block" if block else "inline")
    except Exception:  # broken input makes the converter raise whatever its parts do, IndexError and RecursionError too
        return None
    if not _is_whole(formula, DEEPEST):
        return None
    for element in formula.iter():
        # The converter names characters by entities, which would be escaped once more.
        element.text = html.unescape(element.text) if element.text else None
    return tostring(formula, encoding="unicode")


def _is_whole(element: Element, depth: int) -> bool:
    """Whether every element has the parts that it needs, and no command was left as it is."""
    unknown = element.tag == "mi" and (element.text or "").startswith("\\") and len(element.text or "") > 1
    wanted = CHILDREN.get(element.tag)
    if depth == 0 or unknown or (wanted is not None and len(element) != wanted):
        return False
    return all(_is_whole(child, depth - 1) for child in element)


def _inline(state: StateInline, silent: bool) -> bool:
    opener = next((mark for mark in CLOSERS if state.src.startswith(mark, state.pos)), None)
    if opener is None:
        return False
    start = state.pos + len(opener)
    end = state.src.find(CLOSERS[opener], start, start + LONGEST)
    if end < 0 or not _is_formula(state.src, opener, start, end):
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.markup = state.src[start:end], opener
    state.pos = end + len(opener)
    return True


def _is_formula(text: str, opener: str, start: int, end: int) -> bool:
    """Whether what stands between marks is mathematics: not prices, nor brackets that are only escaped."""
    content = text[start:end]
    if not content.strip():
        return False
    latex = LATEX.search(content) is not None
    if opener == "$":
        before, after = text[start - 2 : start - 1], text[end + 1 : end + 2]
        loose = content[0].isspace() or content[-1].isspace() or content.endswith("\\")
        beside_words = (before.isascii() and before.isalnum()) or (after.isascii() and after.isalnum())
        price = content[0].isdigit() and " " in content and not latex
        return not (loose or beside_words or price)
    return latex or opener == "$$" or NAME.fullmatch(content) is not None


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    line = _line(state, start_line)
    opener = next((mark for mark in ("$$", r"\[") if line.startswith(mark)), None)
    if opener is None or state.is_code_block(start_line):
        return False
    closer = CLOSERS[opener]
    last = start_line
    lines = [line[len(opener) :]]
    while closer not in lines[-1]:
        last += 1
        if last >= end_line or last - start_line > MOST_LINES or not (line := _line(state, last)):
            return False
        lines.append(line)
    lines[-1], _closer, rest = lines[-1].partition(closer)
    content = "\n".join(lines).strip()
    if rest or not content or (opener == r"\[" and LATEX.search(content) is None):
        return False
    if not silent:
        token = state.push("formula_block", "math", 0)
        token.block, token.content, token.markup, token.map = True, content, opener, [start_line, last + 1]
        state.line = last + 1
    return True


def _line(state: StateBlock, number: int) -> str:
    """A line without what is around it; empty where the block that it is in has ended."""
    if state.sCount[number] < state.blkIndent:
        return ""
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()


def _render(_renderer: RendererHTML, tokens: list[Token], index: int, _options: Any, env: dict[str, Any]) -> str:
    token = tokens[index]
    block = token.type == "formula_block" or token.markup in ("$$", r"\[")
    env["formulas"] = env.get("formulas", 0) + len(token.content)
    known = len(token.content) <= LONGEST and env["formulas"] <= MOST
    written = to_mathml(token.content, block=block) if known else None
    if written is None:
        source = escapeHtml(f"{token.markup}{token.content}{CLOSERS[token.markup]}")
        return f"<pre><code>{source}</code></pre>\n" if token.block else f"<code>{source}</code>"
    if token.block:
        return f'<div class="wide" dir="ltr">{written}</div>\n'
    return written
