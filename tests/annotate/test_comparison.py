"""Blind comparisons: what is in, who may see it, what is final, and the verdict."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from annotate.models import Evaluation, Judgement, Membership, Purpose, Slot, User
from annotate.services import Refused
from annotate.services.claiming import claim, skip
from annotate.services.comparison import Comparison, Pair, compare, final_slots, may_see
from annotate.services.gate import Verdict, verdict_of
from annotate.services.guidelines import mark_read, publish
from annotate.services.judging import submit
from annotate.services.ondemand import new_slot
from annotate.services.simulate import judge_everything
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.sequences import betting_sequence
from annotate.stats.style import Style
from tests.annotate.compared import Compared, compared
from tests.annotate.factory import collect_items


@pytest.mark.django_db
class TestWhatIsIn:
    def test_pairs_are_offered_and_count_in_the_order_of_their_draw(self) -> None:
        made = compared()
        for outcome in (1.0, 0.5, 0.0):
            made.judge(made.stage.bob, outcome)
        found = compare(made.evaluation)
        assert found.outcomes == [1.0, 0.5, 0.0]
        assert (found.raters, found.is_complete) == ([("bob", 3)], True)

    def test_a_prompt_waits_for_an_earlier_one_that_can_still_be_judged(self) -> None:
        made = compared()
        slots = Slot.objects.filter(item__evaluation=made.evaluation).order_by("item")
        Slot.objects.filter(pk=slots[0].pk).update(priority=0, lottery=0)
        made.judge(made.stage.bob)
        found = compare(made.evaluation)
        assert (found.judged, found.waiting, found.outcomes) == (1, 1, [])

    def test_a_prompt_that_everybody_skipped_is_passed_over_and_holds_nothing_up(self) -> None:
        made = compared()
        slot = claim(user=made.stage.bob, project=made.stage.project)
        assert slot is not None
        skip(user=made.stage.bob, slot=slot, reason="I do not know.")
        made.judge(made.stage.bob)
        made.judge(made.stage.bob, 0.0)
        found = compare(made.evaluation)
        assert (found.passed_over, found.outcomes, found.is_complete) == (1, [1.0, 0.0], True)

    def test_a_prompt_counts_once_all_its_raters_have_judged_it(self) -> None:
        made = compared(number=1, overlap=2, leads_rate=True)
        made.judge(made.stage.bob, 1.0)
        assert compare(made.evaluation).outcomes == []
        made.judge(made.stage.alice, 0.5)
        assert compare(made.evaluation).outcomes == [0.75]

    def test_judgements_under_other_instructions_are_kept_apart_and_small_corrections_are_not(self) -> None:
        made = compared()
        project, bob, alice = made.stage.project, made.stage.bob, made.stage.alice
        for text, must_read in (("The same, spelt right.", False), ("Prefer the shorter one.", True)):
            version = publish(project=project, text=text, translations={}, must_read=must_read, actor=alice)
            mark_read(user=bob, guideline=version)
            made.judge(bob)
        found = compare(made.evaluation)
        assert (found.outcomes, found.apart) == ([1.0], 1)
        made.draw(1)
        assert made.newer.evaluations.count() == 2
        assert (made.evaluation.guideline, made.evaluation.planned) == (version, 1)

    def test_programs_are_never_mixed_with_people(self) -> None:
        made = compared()
        made.judge(made.stage.bob)
        assert judge_everything(project=made.stage.project, seed=1) == 2
        assert len(compare(made.evaluation).outcomes) == 1
        by_program = compare(made.evaluation, kind=User.Kind.SIMULATED)
        assert [name for name, _count in by_program.raters] == ["simulated-1"]
        assert len(by_program.outcomes) == 2

    def test_an_adjudication_takes_nobody_s_place(self) -> None:
        made = compared(number=1)
        judgement = made.judge(made.stage.bob)
        asked = new_slot(item=judgement.item, purpose=Purpose.ADJUDICATE, rater=made.stage.alice)
        claim(user=made.stage.alice, project=made.stage.project)
        made.answer(asked, made.stage.alice, 0.0)
        assert compare(made.evaluation).outcomes == [1.0]

    def test_who_left_the_project_or_was_shut_out_holds_nothing_up(self) -> None:
        stage_members = compared(number=2, overlap=3, leads_rate=True)
        bob, alice = stage_members.stage.bob, stage_members.stage.alice
        stage_members.judge(bob, 1.0)
        stage_members.judge(bob, 0.0)
        assert compare(stage_members.evaluation).outcomes == []
        Membership.objects.filter(user=alice).delete()
        assert compare(stage_members.evaluation).outcomes == [1.0, 0.0]

    def test_judgements_of_who_left_count(self) -> None:
        made = compared(number=1)
        made.judge(made.stage.bob)
        User.objects.filter(pk=made.stage.bob.pk).update(is_active=False)
        assert compare(made.evaluation).outcomes == [1.0]

    def test_the_result_is_for_raters_only_once_the_planned_number_is_in(self) -> None:
        made = compared(number=2, leads_rate=True)
        alice, evaluation = made.stage.alice, made.evaluation

        def seen(user: User) -> bool:
            return may_see(evaluation=evaluation, user=user)

        made.judge(made.stage.bob)
        assert (seen(alice), seen(made.stage.charlie)) == (False, True)
        made.judge(made.stage.bob)
        assert seen(alice)
        made.draw(1)
        assert not seen(alice)  # there is a pair more to judge

    def test_where_only_programs_judged_nothing_is_left_to_hide(self) -> None:
        made = compared(number=2, leads_rate=True)
        assert not may_see(evaluation=made.evaluation, user=made.stage.alice)
        judge_everything(project=made.stage.project, seed=1)
        found = compare(made.evaluation)
        assert (found.outcomes, found.passed_over) == ([], 2)
        assert may_see(evaluation=made.evaluation, user=made.stage.alice)


@pytest.mark.django_db
class TestWhatWasSaidIsFinal:
    def again(self, made: Compared, judgement: Judgement, outcome: float) -> None:
        """Say something else of a pair that was judged."""
        made.answer(judgement.slot, judgement.rater, outcome, version=judgement.version)

    def test_an_answer_can_be_changed_until_the_planned_number_is_in(self) -> None:
        made = compared(number=2)
        first = made.judge(made.stage.bob, 1.0)
        self.again(made, first, 0.0)
        second = made.judge(made.stage.bob, 1.0)
        assert compare(made.evaluation).outcomes == [0.0, 1.0]
        for judgement in Judgement.objects.filter(pk__in=[first.pk, second.pk]):
            with pytest.raises(Refused, match="The planned number of this comparison is in"):
                self.again(made, judgement, 0.5)
        assert compare(made.evaluation).outcomes == [0.0, 1.0]

    def test_sending_the_same_answer_again_is_no_change_of_it(self) -> None:
        made = compared(number=1)
        slot = claim(user=made.stage.bob, project=made.stage.project)
        assert slot is not None
        sent: dict[str, Any] = {"user": made.stage.bob, "slot": slot, "uuid": uuid.uuid4(), "raw": {"both_bad": True}}
        submit(**sent)
        assert compare(made.evaluation).is_complete
        assert submit(**sent).replay

    def test_an_answer_to_a_prompt_that_was_drawn_later_is_final_as_soon_as_it_is_given(self) -> None:
        made = compared(number=1)
        made.judge(made.stage.bob)
        made.draw(2)
        later = made.judge(made.stage.bob)
        assert not compare(made.evaluation).is_over
        with pytest.raises(Refused, match="what you said stands"):
            self.again(made, later, 0.0)

    def test_somebody_who_comes_back_to_the_project_opens_nothing_again(self) -> None:
        made = compared(number=1, overlap=2, leads_rate=True)
        judgement = made.judge(made.stage.bob)
        membership = Membership.objects.get(user=made.stage.alice)
        membership.delete()
        assert compare(made.evaluation).is_complete
        membership.save(force_insert=True)
        assert verdict_of(compare(made.evaluation)) != Verdict.TOO_EARLY
        with pytest.raises(Refused, match="what you said stands"):
            self.again(made, judgement, 0.0)
        made.judge(made.stage.alice, 0.0)
        found = compare(made.evaluation)
        assert (found.outcomes, found.late, found.is_over) == ([1.0], 1, True)

    def test_who_comes_back_goes_on_with_what_nobody_had_judged(self) -> None:
        made = compared(number=2, overlap=2, leads_rate=True)
        made.judge(made.stage.bob)
        members = list(Membership.objects.filter(user__in=[made.stage.alice, made.stage.bob]))
        Membership.objects.filter(pk__in=[member.pk for member in members]).delete()
        assert verdict_of(compare(made.evaluation)) == Verdict.SHORT
        for member in members:
            member.save(force_insert=True)
        found = compare(made.evaluation)
        assert (found.outcomes, found.passed_over, found.is_complete) == ([1.0], 0, False)
        made.judge(made.stage.bob, 0.0)
        assert compare(made.evaluation).outcomes[0] == 1.0

    def test_other_answers_of_the_rater_stay_open(self) -> None:
        made = compared(number=1)
        collect_items(made.stage)
        made.judge(made.stage.bob)
        slot = claim(user=made.stage.bob, project=made.stage.project)
        assert slot is not None
        collected = submit(user=made.stage.bob, slot=slot, uuid=uuid.uuid4(), raw={"both_bad": True}).judgement
        assert final_slots(list(Slot.objects.filter(state="done"))) == {made.evaluation.items.get().slots.get().pk}
        assert collected is not None
        raw = {"both_bad": True, "rationale": "None of them helps."}
        submit(user=made.stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw, version=1)


def of(
    outcomes: list[float],
    *,
    planned: int = 40,
    words: Sequence[tuple[int, int]] = ((10, 10),),
    lists: Sequence[tuple[int, int]] = ((0, 0),),
    headers: Sequence[tuple[int, int]] = ((0, 0),),
    passed_over: int = 0,
) -> Comparison:
    """A comparison with these outcomes, one judgement a prompt; lengths, lists and headers come again and again."""
    counts = (words, lists, headers)
    pairs = []
    for item, outcome in enumerate(outcomes):
        newer, older = (Style(*(of[item % len(of)][side] for of in counts)) for side in (0, 1))
        pairs.append(Pair(item, "bob", outcome, (newer, older)))
    return Comparison(Evaluation(planned=planned), len(outcomes), len(outcomes), pairs, outcomes, passed_over, 0, 0)


class TestVerdict:
    def test_nothing_is_said_before_the_planned_number_is_in_however_clear_it_looks(self) -> None:
        assert verdict_of(None) == Verdict.NOT_PLANNED
        assert verdict_of(of([])) == Verdict.TOO_EARLY
        assert verdict_of(of([1.0] * 39)) == Verdict.TOO_EARLY
        assert verdict_of(of([1.0] * 40)) == Verdict.BETTER

    def test_bounds_that_leave_a_half_behind_decide(self) -> None:
        assert verdict_of(of([0.0] * 40)) == Verdict.WORSE
        assert verdict_of(of([1.0, 0.0] * 20)) == Verdict.UNDECIDED
        assert verdict_of(of([0.5] * 40)) == Verdict.UNDECIDED

    def test_where_more_than_a_tenth_could_not_be_judged_nothing_is_decided(self) -> None:
        assert verdict_of(of([1.0] * 36, passed_over=4)) == Verdict.BETTER
        assert verdict_of(of([1.0] * 35, passed_over=5)) == Verdict.SHORT
        assert verdict_of(of([], passed_over=40)) == Verdict.SHORT

    @pytest.mark.parametrize("earlier", [1.0, 0.0])
    def test_outcomes_that_no_one_win_rate_fits_are_neither_better_nor_worse(self, earlier: float) -> None:
        drifting = of([earlier] * 120 + [1 - earlier] * 180, planned=300)
        assert drifting.win_rate() == Estimate(abs(earlier - 0.6), None, None, 300)
        assert verdict_of(drifting) == Verdict.DRIFTS
        assert verdict_of(of(drifting.outcomes, planned=301)) == Verdict.TOO_EARLY

    def test_bounds_are_the_betting_sequence_sized_for_the_planned_number(self) -> None:
        outcomes = [1.0, 1.0, 0.0, 1.0] * 15
        expected = betting_sequence(outcomes, planned=60)
        rate = of(outcomes, planned=60).win_rate()
        assert (rate.value, rate.low, rate.high, rate.n) == (0.75, expected.low[-1], expected.high[-1], 60)


class TestAtEqualStyle:
    def test_length_that_tells_wins_from_losses_is_explained(self) -> None:
        found = of([1.0, 0.0, 1.0], words=[(45, 59), (4, 14), (8, 15)]).at_equal_style()
        assert isinstance(found.rate, Undefined)
        assert (found.rate.reason, found.held) == (Reason.ONE_SIDED, ())

    @pytest.mark.parametrize("same", [(10, 10), (0, 0), (1, 0), (2, 7), (1, 3)])
    def test_style_that_is_the_same_or_always_differs_by_the_same_leaves_the_win_rate_as_it_is(
        self, same: tuple[int, int]
    ) -> None:
        # Without ties Bradley and Terry's strength of two models is the log-odds of the wins: 3 of 4.
        found = of([1.0, 1.0, 0.0, 1.0] * 10, lists=[same], headers=[same]).at_equal_style()
        assert (found.rate.value, found.held) == (pytest.approx(0.75, abs=1e-9), ())
        assert found.rate.n == 40

    def test_lists_and_headers_are_held_equal_as_length_is(self) -> None:
        # The newer one wins 9 of 10 where it alone has a list, as where it is longer, and 5 of 10 where neither has.
        outcomes = [1.0] * 9 + [0.0] + [1.0, 0.0] * 5
        more = [(1, 0)] * 10 + [(0, 0)] * 10
        found = {
            name: of(outcomes, **{name: pairs}).at_equal_style()  # type: ignore[arg-type]
            for name, pairs in (("words", more), ("lists", more), ("headers", more))
        }
        for each in found.values():
            assert each.rate.value == pytest.approx(0.5, abs=1e-9)
            assert each.rate.n == 20
        assert [each.held for each in found.values()] == [("words",), ("list_lines",), ("headers",)]

    def test_what_few_answers_have_who_all_won_drops_out_and_length_stays(self) -> None:
        outcomes, words = [1.0, 1.0, 0.0, 1.0] * 10, [(10, 12), (12, 10), (11, 10), (9, 9), (20, 10)]
        by_length = of(outcomes, words=words).at_equal_style()
        rare = [(1, 0)] + [(0, 0)] * 39
        assert of(outcomes, words=words, headers=rare).at_equal_style() == by_length
        assert by_length.held == ("words",)

    def test_lists_that_go_with_headers_count_once(self) -> None:
        outcomes, some = [1.0, 1.0, 0.0, 1.0, 0.0] * 8, [(2, 1), (0, 1), (1, 0), (1, 1), (1, 0), (0, 2), (3, 0)]
        both = of(outcomes, lists=some, headers=some).at_equal_style()
        assert both.held == ("list_lines",)
        assert both.rate == of(outcomes, lists=some).at_equal_style().rate

    @pytest.mark.parametrize(
        ("outcomes", "reason"), [([], Reason.NO_DATA), ([0.5] * 5, Reason.ALL_TIES), ([1.0] * 5, Reason.NOT_CONNECTED)]
    )
    def test_what_cannot_be_fitted_is_explained(self, outcomes: list[float], reason: Reason) -> None:
        assert of(outcomes).at_equal_style().rate.reason == reason  # type: ignore[union-attr]
