"""Filters and tags of the templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from annotate import markdown as markdown_module
from annotate.models.content import Criterion, NormVersion, Project, Prompt, Translated
from annotate.views.dataset_words import KINDS

register = template.Library()

LONG_CHAT = 700
"""Characters."""
GIST = 140
"""Characters."""


@register.filter
def markdown(text: str) -> SafeString:
    """Markdown as safe HTML."""
    return markdown_module.to_html(text)


@register.filter
def localised(record: Translated, field: str) -> str:
    """A field that a lead wrote, in the viewer's language where there is a rendering."""
    return record.in_language(field, get_language() or "en")


@register.filter
def anchors(criterion: Criterion) -> list[tuple[int, str]]:
    """A criterion's five values with their words, in the viewer's language."""
    words = {**criterion.anchors, **criterion.translations.get(get_language() or "en", {}).get("anchors", {})}
    return [(value, words.get(str(value), "")) for value in range(1, 6)]


@register.filter
def gist(prompt: Prompt) -> str:
    """The beginning of a prompt's last message, in a line."""
    return Truncator(str(prompt.messages[-1]["content"])).chars(GIST) if prompt.messages else str(prompt)


@register.filter
def long_chat(prompt: Prompt) -> bool:
    """Whether a prompt is so long that it is better read beside the answers than above them."""
    return len(prompt.reference or "") + sum(len(m["content"]) for m in prompt.messages) > LONG_CHAT


@register.simple_tag
def look_of(
    project: Project, criteria: Iterable[Criterion], norms: Iterable[NormVersion], longest: dict[str, int]
) -> str:
    """What the controls beside answers are made of, as a digest: they are kept by it, and not made anew for each item.

    :param longest: how many characters each field takes.
    """
    asked = [getattr(project, field.attname) for field in project._meta.concrete_fields]
    scales = [(criterion.pk, criterion.name, criterion.anchors, criterion.translations) for criterion in criteria]
    texts = [(version.pk, version.norm.name, version.text) for version in norms]
    return hashlib.blake2b(repr((asked, scales, texts, longest)).encode(), digest_size=16).hexdigest()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A picture out of the sprite; the words beside it, or a label, say what it means."""
    return format_html('<svg aria-hidden="true"><use href="{}#{}"/></svg>', static("annotate/icons.svg"), name)


@register.filter
def percent(value: Any) -> str:
    """A share of 1 as per cent, with one decimal."""
    return signed(f"{value:.1%}") if isinstance(value, (int, float)) else "–"


@register.filter
def figure(value: Any) -> str:
    """A measured value with four significant digits; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    return signed(f"{value:,}" if isinstance(value, int) else f"{value:.4g}")


@register.filter
def rounded(value: float, places: int) -> str:
    """A value with so many decimals."""
    return signed(f"{value:z.{places}f}")


def signed(number: str) -> str:
    """A number with a minus sign, which a hyphen is not: beside a dash it is taken for one."""
    return number.replace("-", "−")


@register.filter
def last_words(messages: list[dict[str, str]]) -> str:
    """The beginning of a chat's last message, in a line."""
    return Truncator(messages[-1]["content"]).chars(GIST) if messages else "–"


@register.filter
def kind_words(kind: str) -> str:
    """What a ranking was made from."""
    return str(KINDS.get(kind, kind))


@register.filter
def listed(value: Any) -> str:
    """A list in a line; other values as they are."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@register.filter
def pretty_json(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=1, ensure_ascii=False)


@register.filter
def interval(value: Any) -> str:
    """A pair of shares of 1 as an interval in per cent."""
    if not (isinstance(value, (list, tuple)) and len(value) == 2):
        return ""
    return signed(f"{value[0]:.1%} – {value[1]:.1%}")


@register.filter
def points(value: float) -> str:
    """A difference of shares of 1 in points of a hundred, with its sign."""
    return signed(f"{100 * value:+.1f}")


@register.filter
def moment(value: datetime) -> str:
    """Day and time, short, in the viewer's language."""
    return date_format(timezone.localtime(value), _("j M Y, H:i"))


@register.filter
def took(start: datetime | None, end: datetime | None) -> str:
    """The time from start to end, or to now where it has not ended."""
    if start is None:
        return "–"
    return duration((end or timezone.now()) - start)


@register.filter
def spent(milliseconds: float | None) -> str:
    """A length of time that is given in milliseconds, in words."""
    return "–" if milliseconds is None else duration(timedelta(milliseconds=milliseconds))


def duration(length: timedelta) -> str:
    """A length of time in the two largest of hours, minutes and seconds."""
    seconds = max(0, round(length.total_seconds()))
    if seconds < 60:
        return _("%(seconds)d s") % {"seconds": seconds}
    if seconds < 3600:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": seconds // 60, "seconds": seconds % 60}
    return _("%(hours)d h %(minutes)d min") % {"hours": seconds // 3600, "minutes": seconds % 3600 // 60}
