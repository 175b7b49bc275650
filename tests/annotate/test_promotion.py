"""Which generation may be promoted: never an earlier one beside a later one that serves."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Generation
from annotate.services import Refused, promotion
from annotate.services.generations import serving
from tests.annotate.compared import Compared, unplanned

pytestmark = pytest.mark.django_db
WHY = "reject generation 2 to go back, then promote generation 1"


def two_generations() -> tuple[Compared, Generation]:
    """Generation 1, a candidate, and its child 2, which serves."""
    made = unplanned()
    later = Generation.objects.create(
        project=made.stage.project,
        number=2,
        parent=made.newer,
        weights_path=made.newer.weights_path,
        state=Generation.State.PROMOTED,
    )
    return made, later


def test_an_earlier_generation_is_promoted_only_after_the_later_one_is_rejected() -> None:
    made, later = two_generations()
    with pytest.raises(Refused, match=WHY):
        promotion.promote(generation=made.newer, actor=made.stage.alice)
    assert not AuditEvent.objects.filter(action="promoted").exists()
    promotion.reject(generation=later, actor=made.stage.alice)
    assert serving(made.stage.project).number == 0
    promotion.promote(generation=made.newer, actor=made.stage.alice)
    assert serving(made.stage.project) == made.newer
    promotion.promote(generation=later, actor=made.stage.alice)
    assert serving(made.stage.project) == later


def test_the_button_is_offered_only_where_it_works_and_the_page_says_what_to_do(client: Client) -> None:
    made, later = two_generations()
    client.force_login(made.stage.alice)
    promote = reverse("promote", args=["garden", 1])
    pages = [reverse(name, args=["garden", 1]) for name in ("gate", "generation")]
    for page in pages:
        html = client.get(page).content.decode()
        assert promote not in html
        assert "to promote this one, reject generation 2 first" in html
    assert promote not in client.get(reverse("project", args=["garden"])).content.decode()
    assert WHY in client.post(promote, follow=True).content.decode()
    promotion.reject(generation=later, actor=made.stage.alice)
    for page in [*pages, reverse("project", args=["garden"])]:
        html = client.get(page).content.decode()
        assert promote in html
        assert "reject generation 2 first" not in html
