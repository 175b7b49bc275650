"""Planning blind comparisons: what is fixed before the first outcome, until when it can be stated anew, who judges."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import AuditEvent, Generation, Membership, Purpose, Run, Slot, User
from annotate.services import Refused
from annotate.services.claiming import claim
from annotate.services.comparison import compare
from annotate.services.evaluations import terms
from annotate.services.gate import Verdict, verdict_of
from annotate.services.guidelines import mark_read, publish
from annotate.services.offers import choose_project, why_none
from tests.annotate.compared import Compared, compared, unplanned
from tests.annotate.factory import collect_items
from tests.annotate.keyed import member


def prompts_of(made: Compared) -> list[int]:
    return list(made.evaluation.items.order_by("pk").values_list("prompt", flat=True))


@pytest.mark.django_db
class TestPlanning:
    def test_number_people_and_instructions_are_stored_before_anything_is_judged(self) -> None:
        made = compared(number=3)
        evaluation = made.evaluation
        assert evaluation.planned == evaluation.items.count() == 3
        assert [row.rater for row in evaluation.pool.all()] == [made.stage.bob]
        assert evaluation.guideline == made.stage.project.guidelines.get()
        event = AuditEvent.objects.get(action="planned")
        assert (event.actor, event.data) == (made.stage.alice, {"planned": 3, "raters": ["bob"]})

    @pytest.mark.parametrize(
        ("leads_rate", "roles", "pool"),
        [
            (False, ["lead", "rater"], {"bob"}),
            (True, ["lead", "rater"], {"alice", "bob"}),
            (False, ["lead"], {"alice"}),
        ],
    )
    def test_leads_are_in_the_pool_where_they_rate_or_nobody_else_does(
        self, leads_rate: bool, roles: list[str], pool: set[str]
    ) -> None:
        made = unplanned()
        Membership.objects.exclude(role__in=roles).delete()
        made.draw(1, leads_rate=leads_rate)
        assert {row.rater.username for row in made.evaluation.pool.all()} == pool

    def test_prompts_are_drawn_at_random_by_the_seed(self) -> None:
        made = unplanned(prompts=60)
        made.draw(10, seed=1)
        drawn = prompts_of(made)
        assert drawn != sorted(drawn)
        assert set(drawn) < set(made.stage.project.prompts.filter(split="test").values_list("pk", flat=True))

    def test_number_and_people_can_be_stated_anew_until_something_is_judged_and_the_number_is_the_planned_one(
        self,
    ) -> None:
        made = compared(number=3)
        first = prompts_of(made)
        made.draw(1, leads_rate=True)
        assert (made.evaluation.planned, prompts_of(made)) == (1, first[:1])
        assert {row.rater.username for row in made.evaluation.pool.all()} == {"alice", "bob"}
        made.draw(4)
        assert (made.evaluation.planned, prompts_of(made)[:1], len(prompts_of(made))) == (4, first[:1], 4)
        assert [row.rater.username for row in made.evaluation.pool.all()] == ["bob"]
        stated = [event.data for event in AuditEvent.objects.filter(action="planned").order_by("pk")]
        assert [(data["planned"], data["raters"]) for data in stated] == [
            (3, ["bob"]),
            (1, ["alice", "bob"]),
            (4, ["bob"]),
        ]

    def test_a_plan_that_is_left_as_it_is_draws_what_is_missing_and_writes_nothing(self) -> None:
        made = compared(number=3, leads_rate=True)
        assert made.draw(None, leads_rate=None) == 0
        assert (made.evaluation.planned, made.evaluation.pool.count()) == (3, 2)
        assert AuditEvent.objects.filter(action="planned").count() == 1

    def test_a_pair_that_somebody_has_been_given_is_not_withdrawn(self) -> None:
        made = compared(number=3)
        held = claim(user=made.stage.bob, project=made.stage.project)
        ahead = claim(user=made.stage.bob, project=made.stage.project, ahead=True)
        assert held is not None
        assert ahead is not None
        made.draw(1)
        assert set(made.evaluation.items.values_list("pk", flat=True)) == {held.item_id, ahead.item_id}
        made.answer(held, made.stage.bob, 1.0)
        assert compare(made.evaluation).is_complete

    def test_pairs_have_as_many_slots_as_the_pool_that_is_stated_last(self) -> None:
        made = compared(number=2, overlap=3)
        numbers = made.evaluation.items.values_list("slots__number", flat=True).order_by("slots__number")
        assert list(numbers.all()) == [0, 0]
        made.draw(2, leads_rate=True)
        assert list(numbers.all()) == [0, 0, 1, 1]
        assert {made.judge(made.stage.bob).item.pk for _n in range(2)} == set(
            made.evaluation.items.values_list("pk", flat=True)
        )

    def test_surplus_slots_go_with_the_people(self) -> None:
        made = compared(number=2, overlap=3, leads_rate=True)
        assert Slot.objects.filter(item__evaluation=made.evaluation).count() == 4
        made.draw(2)
        assert list(Slot.objects.filter(item__evaluation=made.evaluation).values_list("number", flat=True)) == [0, 0]

    def test_what_was_fetched_by_somebody_who_is_no_longer_in_the_pool_is_let_go(self) -> None:
        made = compared(number=2, leads_rate=True)
        alice = made.stage.alice
        at_work = claim(user=alice, project=made.stage.project)
        claim(user=alice, project=made.stage.project, ahead=True)
        made.draw(2)
        assert [slot.pk for slot in Slot.objects.filter(state="leased")] == [at_work and at_work.pk]

    def test_a_plan_of_which_nothing_is_judged_moves_to_the_instructions_that_must_be_read_by_now(self) -> None:
        made = compared(number=4)
        stage = made.stage
        version = publish(project=stage.project, text="Be brief.", translations={}, must_read=True, actor=stage.alice)
        made.draw(4)
        assert (made.newer.evaluations.get().guideline, made.evaluation.items.count()) == (version, 4)

    def test_once_something_is_judged_more_is_drawn_and_number_and_people_stay(self) -> None:
        made = compared(number=3)
        made.judge(made.stage.bob)
        made.draw(1)
        assert (made.evaluation.planned, made.evaluation.items.count()) == (3, 4)
        with pytest.raises(Refused, match="its raters stay as stated, without alice"):
            made.draw(None, leads_rate=True)
        assert terms(made.newer).pool == [made.stage.bob]

    def test_people_come_to_a_comparison_of_whose_raters_nobody_is_left(self) -> None:
        made = compared(number=2)
        made.judge(made.stage.bob)
        Membership.objects.filter(user=made.stage.bob).delete()
        dora = member(made.stage, "dora")
        assert (terms(made.newer).deserted, verdict_of(compare(made.evaluation))) == (True, Verdict.SHORT)
        assert claim(user=dora, project=made.stage.project) is None
        assert made.draw(None) == 0
        assert list(made.evaluation.pool.filter(added_at__isnull=False).values_list("rater", flat=True)) == [dora.pk]
        event = AuditEvent.objects.get(action="added raters")
        assert (event.actor, event.data) == (made.stage.alice, {"raters": ["dora"]})
        made.judge(dora, 0.0)
        assert compare(made.evaluation).outcomes == [1.0, 0.0]
        assert not terms(made.newer).deserted

    def test_what_was_asked_for_with_the_generation_is_planned_where_nobody_says_otherwise(self) -> None:
        made = unplanned()
        Run.objects.filter(made_generation=made.newer).update(selection={"planned": 2, "leads_rate": True})
        made.newer.refresh_from_db()
        assert made.draw(None, leads_rate=None) == 2
        assert (made.evaluation.planned, made.evaluation.pool.count()) == (2, 2)

    def test_no_more_prompts_are_planned_than_there_are(self) -> None:
        made = unplanned()
        with pytest.raises(Refused, match="Only 4 test prompts are left"):
            made.draw(5)
        assert made.draw(1) == 1
        with pytest.raises(Refused, match="Only 4 test prompts are left"):
            made.draw(5)
        assert (made.draw(4), made.evaluation.planned) == (3, 4)
        made.judge(made.stage.bob)
        with pytest.raises(Refused, match="Only 0 test prompts are left"):
            made.draw(1)

    def test_all_test_prompts_are_planned_where_nobody_says_how_many(self) -> None:
        made = unplanned()
        assert (made.draw(None), made.evaluation.planned) == (4, 4)
        assert made.draw(None) == 0


@pytest.mark.django_db
class TestWhoJudges:
    def test_a_pair_has_no_more_slots_than_the_pool_has_people(self) -> None:
        made = compared(overlap=3)
        assert Slot.objects.filter(item__evaluation=made.evaluation).count() == 3

    def test_who_is_not_in_the_pool_gets_none_of_the_pairs(self) -> None:
        made = compared()
        collect_items(made.stage)
        dora = member(made.stage, "dora")
        slot = claim(user=dora, project=made.stage.project)
        assert slot is not None
        assert slot.purpose == Purpose.COLLECT
        pair = claim(user=made.stage.bob, project=made.stage.project)
        assert pair is not None
        assert pair.purpose == Purpose.EVALUATE

    @pytest.mark.parametrize("random_share", [0, 1])
    def test_who_is_not_in_the_pool_is_told_that_what_is_left_is_for_others(self, random_share: int) -> None:
        made = compared()
        project = made.stage.project
        project.random_share = random_share
        dora = member(made.stage, "dora")
        assert choose_project(user=dora, projects=[project]) is None
        assert choose_project(user=made.stage.bob, projects=[project]) == project
        claim(user=made.stage.bob, project=project)
        claim(user=made.stage.bob, project=project, ahead=True)
        assert claim(user=dora, project=project) is None
        assert "other people were chosen" in why_none(user=dora, project=project)

    @pytest.mark.parametrize("state", Generation.State.values)
    def test_what_is_left_of_a_comparison_is_for_its_pool_whatever_was_decided(self, state: str) -> None:
        made = compared()
        made.judge(made.stage.bob)
        Generation.objects.filter(pk=made.newer.pk).update(state=state)
        dora = member(made.stage, "dora")
        assert claim(user=dora, project=made.stage.project) is None
        assert "other people were chosen" in why_none(user=dora, project=made.stage.project)
        made.judge(made.stage.bob)
        made.judge(made.stage.bob)
        assert len(compare(made.evaluation).outcomes) == 3

    @pytest.mark.parametrize("random_share", [0.0, 1.0])
    def test_who_joins_later_gets_the_pairs_of_the_comparisons_that_list_them(self, random_share: float) -> None:
        made = compared(number=2, prompts=24, random_share=random_share)
        dora = member(made.stage, "dora")
        version = publish(
            project=made.stage.project, text="Be brief.", translations={}, must_read=True, actor=made.stage.alice
        )
        for reader in (dora, made.stage.bob):
            mark_read(user=reader, guideline=version)
        made.judge(made.stage.bob)
        made.draw(2)
        assert {row.rater for row in made.evaluation.pool.all()} == {dora, made.stage.bob}
        for _n in range(2):
            assert made.judge(dora).item.evaluation == made.evaluation
        assert claim(user=dora, project=made.stage.project) is None
        made.judge(made.stage.bob)
        assert Slot.objects.filter(item__evaluation__in=made.newer.evaluations.all(), state="free").count() == 0

    def test_only_a_claim_that_comes_upon_a_pair_asks_whose_it_is(self) -> None:
        made = compared(number=3)
        collect_items(made.stage)
        dora, carol = member(made.stage, "dora"), member(made.stage, "carol")

        def statements(user: User) -> int:
            with CaptureQueriesContext(connection) as queries:
                slot = claim(user=user, project=made.stage.project)
            assert slot is not None
            assert slot.purpose == Purpose.COLLECT
            return len(queries)

        beside_pairs = statements(dora)
        Slot.objects.filter(purpose="evaluate").update(priority=2**60)
        assert statements(carol) == beside_pairs - 2  # whose the pair is, and what is not of others
