"""The gate's report: what a lead reads, what is hidden from whom, and what a decision leaves in the trail."""

from __future__ import annotations

import json
import re
from html import unescape

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse
from scipy import stats

from annotate.models import AuditEvent, Completion, Generation, Judgement, Membership
from annotate.services import alone, gate, promotion
from annotate.services.guidelines import mark_read, publish
from annotate.services.measure import outcome_of
from annotate.services.scorers import scorers, unused_seed
from annotate.services.simulate import judge_everything
from annotate.stats.estimate import Estimate
from tests.annotate.compared import Compared, compared, reward_model, unplanned
from tests.annotate.factory import completions
from tests.annotate.keyed import member

pytestmark = pytest.mark.django_db


def show(client: Client, made: Compared, name: str = "gate", **query: str) -> str:
    client.force_login(made.stage.alice)
    response = client.get(reverse(name, args=["garden", 1]), query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def test_a_lead_who_judges_sees_progress_and_no_result_until_the_planned_number_is_in(client: Client) -> None:
    made = compared(number=2, leads_rate=True)
    made.judge(made.stage.bob)
    html = show(client, made)
    assert "1 of 2 planned prompts" in html
    assert "The result is hidden from you" in html
    for page in ("gate", "gate_live", "generation"):
        html = show(client, made, page)
        assert "prefer it on" not in html
        assert "Raters prefer it" not in html
    made.judge(made.stage.bob)
    html = show(client, made)
    assert "is hidden from you" not in html
    assert "They prefer it on 100.0% of 2 test prompts" in html


def test_a_lead_who_does_not_judge_sees_bounds_at_every_look(client: Client) -> None:
    made = compared()
    made.judge(made.stage.bob)
    html = show(client, made)
    assert "It is too early to say" in html
    assert "They prefer it on 100.0% of 1 test prompt " in html


def polled(html: str) -> str:
    """The address that a page or a piece of it asks again; empty where it does not."""
    found = re.search(r'id="gate-progress"[^>]*hx-get="([^"]*)"', html)
    return unescape(found[1]) if found else ""


def test_the_whole_page_is_asked_for_when_the_planned_number_is_in_and_when_all_is(client: Client) -> None:
    made = compared(number=1)
    address = polled(show(client, made))
    assert "HX-Refresh" not in client.get(address)
    made.judge(made.stage.bob)
    made.draw(1)
    assert client.get(address)["HX-Refresh"] == "true"
    complete = polled(show(client, made))
    assert "HX-Refresh" not in client.get(complete)
    assert polled(client.get(complete).content.decode()) == complete
    made.judge(made.stage.bob)
    response = client.get(complete)
    assert response["HX-Refresh"] == "true"
    assert polled(response.content.decode()) == polled(show(client, made)) == ""


def test_the_progress_of_programs_that_is_polled_is_theirs_and_asks_for_no_page_again_and_again(
    client: Client,
) -> None:
    made = unplanned(overlap=2)
    member(made.stage, "dora")
    made.draw(2)
    for _n in range(2):
        made.judge(made.stage.bob)
    Membership.objects.filter(user__username="dora").delete()
    assert polled(show(client, made)) == ""
    html = show(client, made, kind="simulated")
    assert "0 of 2 planned prompts" in html
    again = client.get(polled(html))
    assert "HX-Refresh" not in again
    assert "0 of 2 planned prompts" in again.content.decode()
    assert polled(again.content.decode()) == polled(html)
    judge_everything(project=made.stage.project, seed=1)
    assert client.get(polled(html))["HX-Refresh"] == "true"
    assert polled(show(client, made, kind="simulated")) == ""


def test_what_there_is_not_is_explained(client: Client) -> None:
    made = unplanned()
    html = show(client, made)
    assert "No comparison by raters is planned yet" in html
    assert "No reward model scored answers of both." in html
    reward_model(made, 1, {0: [0, 0, 0, 0], 1: [1, 1, 2, 1]})
    assert "Only one reward model scored these answers" in show(client, made)
    made.draw(None)
    assert "No prompt is in yet from these raters." in show(client, made)


def test_only_answers_of_one_evaluation_are_held_against_each_other() -> None:
    made = unplanned()
    Completion.objects.filter(run__kind="evaluate").update(token_count=64)  # and then longer answers were allowed
    evaluated = completions(made.newer, samples=1, kind="evaluate", first=1)
    completions(made.stage.generation, samples=1, kind="evaluate", first=11, made_by=evaluated)
    Completion.objects.filter(run=evaluated).update(token_count=256)
    length = gate.report(made.newer).length
    assert (length.older.value, length.newer.value) == (256, 256)
    table = alone.perplexities(made.stage.project)
    assert table == {}
    Completion.objects.filter(run=evaluated).update(sum_logprob=-256.0)
    Completion.objects.exclude(run=evaluated).update(sum_logprob=-1.0)
    assert [each.value for each in alone.perplexities(made.stage.project).values()] == [np.e, np.e]


def test_the_report_keeps_its_reward_when_the_next_generation_is_scored_by_another_model() -> None:
    made = unplanned()
    reward_model(made, 1, {0: [0, 0, 0, 0], 1: [1, 1, 2, 1]})
    later = reward_model(made, 2, {1: [5, 5, 5, 5]})
    report = gate.report(made.newer)
    assert report.reward_model != later
    assert report.reward.change.value == 1.25


def test_one_prompt_leaves_the_rise_of_the_reward_and_the_gap_unknown() -> None:
    made = unplanned(prompts=3)
    reward_model(made, 1, {0: [0], 1: [1]})
    reward_model(made, 2, {0: [0], 1: [1]})
    checks = gate.report(made.newer).checks
    assert (checks["reward"], checks["disagreement"]) == (None, None)


def test_all_ties_are_explained(client: Client) -> None:
    made = compared()
    for _n in range(3):
        made.judge(made.stage.bob, 0.5)
    html = show(client, made)
    assert "They prefer it on 50.0% of 3 test prompts" in html
    assert "All comparisons are ties." in html
    assert "People: The raters cannot tell it from its parent" in html


def test_the_figure_at_equal_length_and_layout_names_what_it_holds_equal_and_its_n(client: Client) -> None:
    # Of two words each: where the newer one has a list it wins 3 of 4, where neither has 2 of 4.
    made = compared(number=8, prompts=24)
    for place, item in enumerate(made.evaluation.items.order_by("pk")):
        item.completions.update(text="Prune roses")
        written = "- Cut\n- roses" if place < 4 else "Cut roses"
        item.completions.filter(generation=made.newer).update(text=written)
    for outcome in (1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0):
        made.judge(made.stage.bob, outcome)
    figure = show(client, made).split("At equal length and layout</dt>")[1].split("</dd>")[0]
    assert ">50.0%" in figure
    assert "n = 8<" in figure
    assert "the interval is for one look" in figure
    assert "Held equal: list lines." in figure
    made.newer.completions.update(text="Cut roses")
    figure = show(client, made).split("At equal length and layout</dt>")[1].split("</dd>")[0]
    assert ">62.5%" in figure  # 5 of 8, as without it
    assert "Nothing had to be held equal." in figure


def test_the_base_model_has_no_report(client: Client) -> None:
    client.force_login(compared().stage.alice)
    assert client.get(reverse("gate", args=["garden", 0])).status_code == 404


def test_programs_are_shown_apart_on_demand(client: Client) -> None:
    made = compared(number=1)
    made.judge(made.stage.bob)
    assert "No prompt is in yet from these raters." in show(client, made, kind="simulated")
    assert "They prefer it on 100.0% of 1 test prompt" in show(client, made, kind="nobody")


def test_where_no_person_has_compared_the_report_begins_with_who_has(client: Client) -> None:
    made = compared(number=1)
    judge_everything(project=made.stage.project, seed=1)
    html = show(client, made)
    assert re.search(r"Simulated rater: It [^.]*; no person(&#x27;|')s judgement is in this\.", html)
    assert re.search(r"It is preferred on [\d.]+% of 1 test prompt ", html)
    assert "They prefer it" not in html
    assert "the taste of one person" not in html
    assert "No prompt is in yet from these raters." in show(client, made, kind="human")


def test_the_reward_s_change_is_paired_by_prompt(client: Client) -> None:
    made = unplanned()
    older, newer = [0.0, 1.0, 0.5, -0.5], [1.0, 1.5, 1.75, 0.0]
    reward_model(made, 1, {0: older, 1: newer})
    found = gate.report(made.newer).reward
    expected = stats.ttest_rel(newer, older).confidence_interval()
    assert found.change.value == 0.8125
    assert found.change.interval == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert found.passed
    assert ">0.8125" in show(client, made)


def test_a_reward_whose_interval_leaves_open_whether_it_rises_is_not_said_to_fall(client: Client) -> None:
    made = unplanned()
    reward_model(made, 1, {0: [0, 0, 0, 0], 1: [0.8, 0.8, -0.2, 0.2]})
    found = gate.report(made.newer).reward
    assert found.change.value == pytest.approx(0.4)
    assert found.change.low is not None
    assert found.change.low < 0
    html = show(client, made)
    assert "But look at this: the reward is not shown to rise." in html
    row = html[html.index(">Reward<p") : html.index("Disagreement of reward models")]
    assert ">not shown to rise<" in row
    assert "out of bounds" not in row


def test_a_rise_that_is_the_same_on_every_prompt_is_not_known_to_be_one_of_others(client: Client) -> None:
    made = unplanned()
    for number in (1, 2):
        reward_model(made, number, {0: [0, 1, 0, 1], 1: [number, 1 + number, number, 1 + number]})
    found = gate.report(made.newer)
    assert (found.reward.change.interval, found.disagreement.change.interval) == (None, None)
    assert (found.checks["reward"], found.checks["disagreement"], found.failed) == (None, None, [])
    html = show(client, made)
    assert html.count("not known</span>") == 2
    assert "No reward model scored" not in html
    assert "Only one reward model" not in html


def test_a_gap_between_two_reward_models_that_widens_is_out_of_bounds(client: Client) -> None:
    made = unplanned()
    rises = np.array([1.0, 1.25, 1.5, 1.0])
    trained = reward_model(made, 1, {0: [0, 0, 0, 0], 1: rises.tolist()})
    made.newer.run.reward_model = trained  # type: ignore[union-attr]
    made.newer.run.save()  # type: ignore[union-attr]
    reward_model(made, 2, {0: [0, 0, 0, 0], 1: (rises / 2).tolist()})
    found = gate.report(Generation.objects.get(number=1))
    assert (found.reward_model, found.disagreement.change.value) == (trained, rises.mean() / 2)
    assert found.disagreement.passed is False
    assert "the reward models drift apart" in show(client, made)


def test_answers_that_grow_long_or_do_not_end_are_out_of_bounds() -> None:
    made = unplanned()
    newer = Completion.objects.filter(generation=made.newer)
    report = gate.report(made.newer)
    assert (report.checks["length"], report.checks["end_rate"]) == (True, True)
    newer.update(token_count=13)
    assert gate.report(made.newer).checks["length"] is False  # 13 for 8: more than 1.5 times
    newer.filter(prompt=newer.filter(prompt__split="test").earliest("pk").prompt).update(finish_reason="length")
    assert gate.report(made.newer).checks["end_rate"] is False  # one of four


def test_the_kl_has_a_budget() -> None:
    made = unplanned()
    report = gate.report(made.newer)
    assert report.kl == Estimate(4.75, None, None, 64)  # by a run that told nothing of single prompts
    assert (report.kl_budget, report.kl_passed) == (9.0, True)
    made.newer.how_made["job"]["kl_target"] = 3.0
    assert gate.report(made.newer).failed == ["kl"]


def test_the_kl_has_an_interval_over_prompts(client: Client) -> None:
    made = unplanned()
    made.newer.how_made["metrics"]["final"] = {"kl": 5.0, "kl_by_prompt": [4.0, 5.0, 6.0]}
    made.newer.save(update_fields=["how_made"])
    found = gate.report(made.newer).kl
    assert found is not None
    assert (found.value, found.n) == (5, 3)
    assert found.low == pytest.approx(5 - 4.302653 / 3**0.5, abs=1e-5)  # t at 97.5 % with 2 degrees of freedom
    row = re.split("KL to the parent", show(client, made))[1]
    assert re.search(r">5<br><span class=\"soft\">2\.516 – 7\.484</span><br><span class=\"soft\">n = 3<", row)


def test_a_decision_keeps_what_was_known_when_it_was_taken_and_can_be_taken_back() -> None:
    made = compared(number=2)
    made.judge(made.stage.bob)
    for decide in (promotion.promote, promotion.reject, promotion.promote):
        decide(generation=made.newer, actor=made.stage.alice)
    made.newer.refresh_from_db()
    assert made.newer.state == "promoted"
    events = AuditEvent.objects.filter(action__in=["promoted", "rejected"]).order_by("pk")
    assert [event.action for event in events] == ["promoted", "rejected", "promoted"]
    known = events[0].data["evidence"]
    assert (known["verdict"], known["win_rate"], known["prompts"], known["planned"]) == ("too early", 1.0, 1, 2)


def test_a_decision_keeps_apart_what_people_and_what_programs_said() -> None:
    made = compared(number=2)
    made.judge(made.stage.bob, 0.0)
    judge_everything(project=made.stage.project, seed=1)
    simulated = Judgement.objects.get(rater__kind="simulated")
    promotion.promote(generation=made.newer, actor=made.stage.alice)
    known = AuditEvent.objects.get(action="promoted").data["evidence"]
    assert (known["verdict"], known["win_rate"], known["prompts"], known["planned"]) == ("ended short", 0.0, 1, 2)
    outcome = outcome_of(simulated.revisions.get(), made.newer.pk)
    expected = {"verdict": "ended short", "win_rate": outcome, "bounds": [0.0, 1.0], "prompts": 1}
    assert known["programs"] == {"simulated": expected}


def test_evaluating_plans_as_many_prompts_as_the_form_says(client: Client) -> None:
    made = unplanned()
    client.force_login(made.stage.alice)
    sent = {"generation": "1", "planned": "2", "leads_rate": "1"}
    client.post(reverse("launch", args=["garden", "evaluate"]), sent)
    evaluation = made.evaluation
    assert (evaluation.planned, evaluation.pool.count()) == (2, 2)
    assert made.newer.runs.exclude(selection={}).get().selection == {"draw": 2}


def test_outcomes_that_drift_are_said_and_have_no_bounds(client: Client) -> None:
    made = compared(number=42, prompts=126)
    for outcome in [1.0] * 12 + [0.0] * 30:
        made.judge(made.stage.bob, outcome)
    html = show(client, made)
    assert "The outcomes drift: no one win-rate fits them from first to last" in html
    assert "They prefer it on 28.6% of 42 test prompts. " in html  # 12 of 42
    assert "There are no bounds: they have crossed" in html
    assert re.search(r'42</td><td class="figure">28\.6%</td><td class="figure">–</td>', html)
    points = json.loads(unescape(re.search(r'data-sequence="([^"]+)"', html)[1]))  # type: ignore[index]
    assert [points[name][-1] for name in ("y", "low", "high")] == [0.2857, None, None]
    assert points["low"][11] > 0.5
    promotion.reject(generation=made.newer, actor=made.stage.alice)
    known = AuditEvent.objects.get(action="rejected").data["evidence"]
    assert (known["verdict"], known["bounds"]) == ("drifts", None)


def test_one_rater_is_said(client: Client) -> None:
    made = compared(number=1, overlap=2, leads_rate=True)
    made.judge(made.stage.bob)
    made.judge(made.stage.alice)
    assert "the taste of one person" not in show(client, made)
    Judgement.objects.filter(rater=made.stage.alice).update(rater=member(made.stage, "dora"))
    assert "the taste of one person" in show(client, made)


def test_judgements_under_other_instructions_are_said_with_what_to_do(client: Client) -> None:
    made = compared()
    stage = made.stage
    made.judge(stage.bob)
    version = publish(project=stage.project, text="Be brief.", translations={}, must_read=True, actor=stage.alice)
    mark_read(user=stage.bob, guideline=version)
    made.judge(stage.bob)
    html = show(client, made)
    assert "1 judgement was given under other instructions and is kept apart. Evaluate again" in html
    made.draw(1)
    html = show(client, made)
    assert "Under instructions version 1, kept apart:" in html
    assert "100.0%" in html


def test_the_other_reward_model_has_no_seed_in_common_with_the_first() -> None:
    made = unplanned()
    models = [reward_model(made, number, {}) for number in (1, 2, 3)]
    assert made.newer.run is not None
    made.newer.run.reward_model = models[0]
    for model, job in zip(models, [{"seed": 1}, {"seed": 2}, {"seed": 0, "members": 2}], strict=True):
        model.run.job = job
        model.run.save()
    assert scorers(made.newer, models) == (models[0], models[1])
    assert scorers(made.newer, models[1:]) == (models[2], models[1])
    assert scorers(made.newer, [models[0], models[2]]) == (models[0], None)
    assert scorers(made.newer, []) == (None, None)
    assert unused_seed(made.stage.project) == 3
