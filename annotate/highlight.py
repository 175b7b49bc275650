"""Code in colours: Pygments' tokens as spans of a few classes, which the style sheet knows in light and dark."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from markdown_it.common.utils import escapeHtml
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String
from pygments.util import ClassNotFound

LONGEST = 20_000
"""Characters that are highlighted of a text; beyond them code stays plain."""

LANGUAGES = frozenset(
    {
        *("asm", "bash", "c", "c++", "c#", "cmake", "console", "cpp", "cs", "csharp", "css", "cuda"),
        *("cython", "dart", "diff", "docker", "dockerfile", "elixir", "erlang", "fortran", "go", "golang"),
        *("graphql", "haskell", "hs", "html", "http", "ini", "java", "javascript", "js", "json", "jsonl"),
        *("jsx", "julia", "kotlin", "latex", "lean", "less", "lisp", "lua", "make", "makefile", "matlab"),
        *("nginx", "objective-c", "ocaml", "pascal", "perl", "php", "powershell", "proto", "protobuf", "ps1"),
        *("py", "python", "python3", "pycon", "r", "rb", "rs", "ruby", "rust", "scala", "scheme", "scss"),
        *("sh", "shell", "solidity", "sql", "svg", "swift", "tex", "toml", "ts", "tsx", "typescript", "vim"),
        *("xml", "yaml", "yml", "zig", "zsh"),
    }
)
"""Names after the fence that choose a lexer of Pygments; others leave the code plain."""

CLASSES = (
    (Comment, "hl-comment"),
    (Keyword, "hl-keyword"),
    (Operator.Word, "hl-keyword"),
    (String, "hl-string"),
    (Number, "hl-number"),
    (Name.Function, "hl-name"),
    (Name.Class, "hl-name"),
    (Name.Decorator, "hl-name"),
    (Name.Tag, "hl-keyword"),
    (Name.Attribute, "hl-name"),
    (Name.Builtin, "hl-builtin"),
    (Name.Exception, "hl-builtin"),
    (Generic.Deleted, "hl-deleted"),
    (Generic.Inserted, "hl-inserted"),
    (Generic.Heading, "hl-comment"),
)
CLASS_NAMES = frozenset(name for _kind, name in CLASSES)


def highlight(code: str, language: str) -> str:
    """Code as HTML, its tokens in spans; plain where the language is not known.

    :param language: the word after the fence.
    """
    if language.lower() not in LANGUAGES:
        return escapeHtml(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escapeHtml(code)
    pieces = []
    for name, tokens in groupby(lexer.get_tokens(code), key=_class_of):
        text = escapeHtml("".join(value for _kind, value in tokens))
        pieces.append(f'<span class="{name}">{text}</span>' if name else text)
    return "".join(pieces)


def _class_of(token: tuple[Any, str]) -> str:
    kind, _value = token
    return next((name for parent, name in CLASSES if kind in parent), "")
