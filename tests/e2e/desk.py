"""What tests of the rating page share: a rater at the desk, and what was stored of their work."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from annotate.models import Completion, JudgementRevision, Norm, NormVersion
from annotate.services.items import make_collect_items
from tests.annotate.factory import World, completions, world
from tests.e2e.conftest import sign_in

MARKDOWN = (
    """A table that is wide:

| step | what happens in it | memory | time | a remark | another |
| --- | --- | --- | --- | --- | --- |
| forward | inputs are kept | O(n) | O(n) | activations | yes |

```python
def backward(layers, loss): return [layer.backward(loss.gradient(), scale=0.5) for layer in reversed(layers)]
```

A_long_name_without_end_"""
    + "_and_no_end" * 30
    + "\n\n$$x_1 + "
    + " + ".join(f"x_{{{n}}}" for n in range(40))
    + "$$"
)


def staged(texts: list[str], *, norms: tuple[str, ...] = (), prompts: int = 1, **protocol: Any) -> World:
    """A project whose items have these answers, one for each text."""
    stage = world(prompts=prompts, completions_per_item=len(texts), norms_on=bool(norms), **protocol)
    for name in norms:
        norm = Norm.objects.create(project=stage.project, name=name)
        NormVersion.objects.create(norm=norm, number=1, text=f"An answer should be **{name}**.")
    completions(stage.generation, samples=len(texts))
    for sample, text in enumerate(texts):
        Completion.objects.filter(sample=sample).update(text=text)
    make_collect_items(project=stage.project, generation=stage.generation)
    return stage


def at_the_desk(page: Page, address: str, stage: World) -> None:
    """Sign Bob in, who finds his first item."""
    sign_in(page, address, stage.bob)
    expect(page.locator("article.is-current")).to_have_attribute("data-answer", "A")


def press(page: Page, keys: str) -> None:
    """Press keys, with spaces between them, one after the other."""
    for key in keys.split():
        page.keyboard.press(key)


def revision() -> JudgementRevision:
    """What was stored last."""
    return JudgementRevision.objects.latest("pk")
