"""The Chinese catalogue has everything that the site can say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).parents[2]
KEYWORDS = {"_": None, "gettext": None, "gettext_lazy": None, "ngettext": (1, 2)}


def catalogue() -> Catalog:
    with open(ROOT / "annotate/locale/zh_Hans/LC_MESSAGES/django.po", "rb") as file:
        return read_po(file)


def said() -> Iterator[tuple[str, str]]:
    """Each text marked for translation, with the file that says it."""
    sources = {path: path.read_text() for path in (ROOT / "annotate").rglob("*.py") if "migrations" not in path.parts}
    sources |= {path: _as_python(path.read_text()) for path in (ROOT / "templates").rglob("*.html")}
    for path, source in sources.items():
        for _line, message, _comments, _context in extract("python", BytesIO(source.encode()), KEYWORDS):
            yield (message if isinstance(message, str) else message[0]), str(path.relative_to(ROOT))


def _as_python(template: str) -> str:
    """A template's marked texts as calls of gettext, one indentation throughout."""
    return "\n".join(line.strip() for line in templatize(template).splitlines())


def test_every_text_of_the_site_is_in_chinese_too() -> None:
    found = catalogue()
    translated = {m.id if isinstance(m.id, str) else m.id[0] for m in found if m.string and m.string != ("",)}
    assert [(text, path) for text, path in said() if text not in translated] == []


def test_no_translation_is_a_guess_or_says_what_the_site_no_longer_says() -> None:
    texts = {text for text, _path in said()}
    for message in catalogue():
        key = message.id if isinstance(message.id, str) else message.id[0]
        assert not message.fuzzy or not key
        assert not key or key in texts, key


def test_translations_keep_every_value_that_is_filled_in() -> None:
    values = re.compile(r"%\(\w+\)[sd]|\{\w+\}")
    for message in catalogue():
        original, translation = (str(t if isinstance(t, str) else t[0]) for t in (message.id, message.string or ""))
        assert sorted(values.findall(original)) == sorted(values.findall(translation)), original
