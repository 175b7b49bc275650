"""All generations side by side: strengths, the matrix, and what is kept apart or explained."""

from __future__ import annotations

import json
import math
import re
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse
from scipy import stats

from annotate.models import Aggregate, Completion, Prompt, Signal, User
from annotate.services import aggregates, alone, strengths
from annotate.services.claiming import claim
from annotate.services.guidelines import mark_read, publish
from annotate.services.simulate import judge_everything
from annotate.services.strengths import Compared as Found
from annotate.stats.estimate import Estimate, Reason, Undefined
from tests.annotate.compared import Compared, compared, reward_model, unplanned
from tests.annotate.factory import collect_items, world
from tests.annotate.keyed import answer, member

pytestmark = pytest.mark.django_db


def found(made: Compared, kind: str = "human", **query: int) -> Found:
    taken = aggregates.of(made.stage.project, Aggregate.Name.GENERATIONS)
    assert taken is not None
    return strengths.compared(taken.data, kind=kind, viewer=made.stage.alice, **query)


def show(client: Client, made: Compared, **query: str) -> str:
    client.force_login(made.stage.alice)
    response = client.get(reverse("generations", args=["garden"]), query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def judged(outcomes: list[float]) -> Compared:
    """Bob's judgements of as many test prompts."""
    made = compared(number=len(outcomes), prompts=3 * len(outcomes))
    for outcome in outcomes:
        made.judge(made.stage.bob, outcome)
    return made


def test_strengths_are_points_above_generation_0_with_the_matrix_beside_them(client: Client) -> None:
    made = judged([1.0, 1.0, 0.0, 1.0])
    table = found(made)
    assert table.numbers == [0, 1]
    assert not isinstance(table.strengths, Undefined)
    base, newer = table.strengths
    assert (base.value, newer.n) == (0, 4)
    assert newer.value == pytest.approx(190.8485, abs=1e-3)  # 400·log10(3 / 1)
    assert (table.win_rates[1][0].value, table.win_rates[1][0].n) == (0.75, 4)
    html = show(client, made)
    assert ">191<" in html
    assert "75.0%" in html
    assert "There is only one rater" in html


@pytest.mark.parametrize(
    ("others", "words"), [(1, "There are only 2 raters: the intervals are over prompts"), (2, "raters such as these")]
)
def test_two_raters_say_nothing_of_others_and_three_do(client: Client, others: int, words: str) -> None:
    made = unplanned(overlap=1 + others)
    pool = [made.stage.bob, *(member(made.stage, name) for name in ["dora", "erik"][:others])]
    made.draw(4)
    for rater in pool:
        for outcome in (1.0, 1.0, 0.0, 1.0):
            made.judge(rater, outcome)
    assert found(made).raters == 1 + others
    assert words in show(client, made)


def test_scores_are_compared_on_test_prompts(client: Client) -> None:
    made = compared(number=4, completions_per_item=2)  # of 12 prompts, 4 of them for tests
    project, criterion = made.stage.project, str(made.stage.criterion.pk)
    for best in (5, 5, 5, 4):
        slot = claim(user=made.stage.bob, project=project)
        assert slot is not None
        values = {c.pk: best if c.generation_id == made.newer.pk else 2 for c in slot.item.completions.all()}
        answer(slot, (1, 2), scores={str(pk): {criterion: value} for pk, value in values.items()})
    collect_items(made.stage, samples=2)
    while slot := claim(user=made.stage.bob, project=project):
        answer(slot, (1, 2), scores={str(pk): {criterion: 1} for pk in slot.shown})
    base, newer = (found(made).scores[made.stage.criterion.pk][number] for number in (0, 1))
    assert (base.value, base.n) == (pytest.approx((2 + 1 + 1) / 3), 4)
    assert base.interval is None  # the same on each prompt
    assert (newer.value, newer.n) == (4.75, 4)
    assert newer.interval == [pytest.approx(4.75 - 3.182446 * 0.25), 5]  # Student's would end at 5.55
    assert "on test prompts" in show(client, made)


@pytest.mark.parametrize(
    ("outcomes", "reason", "words"),
    [
        ([], Reason.NO_DATA, "Nothing is compared yet by these raters"),
        ([0.5, 0.5], Reason.ALL_TIES, "All comparisons are ties."),
        ([1.0, 1.0], Reason.NOT_CONNECTED, "Generations that can be compared with each other: 0 | 1"),
    ],
)
def test_what_cannot_be_told_is_explained(client: Client, outcomes: list[float], reason: Reason, words: str) -> None:
    made = judged(outcomes) if outcomes else unplanned()
    table = found(made)
    assert isinstance(table.strengths, Undefined)
    assert table.strengths.reason == reason
    assert words in show(client, made)


def test_people_and_programs_are_switched_and_never_mixed(client: Client) -> None:
    made = compared(number=4)
    made.judge(made.stage.bob)
    judge_everything(project=made.stage.project, seed=1)
    assert [found(made, kind).judgements for kind in User.Kind.values] == [1, 3, 0]
    assert "1 judgement," in show(client, made)
    assert "3 judgements," in show(client, made, kind="simulated")


def test_where_no_person_has_compared_the_page_begins_with_who_has(client: Client) -> None:
    made = compared(number=4)
    judge_everything(project=made.stage.project, seed=1)
    assert "4 judgements," in show(client, made)
    assert "0 judgements," in show(client, made, kind="human")


def test_judgements_under_other_instructions_are_kept_apart_and_said(client: Client) -> None:
    made = compared(number=2)
    made.judge(made.stage.bob)
    project, alice = made.stage.project, made.stage.alice
    version = publish(project=project, text="Be brief.", translations={}, must_read=True, actor=alice)
    mark_read(user=made.stage.bob, guideline=version)
    made.judge(made.stage.bob, 0.0)
    table = found(made)
    assert (table.instructions, table.judgements, table.judged_under) == (2, 1, {1: 1, 2: 1})
    assert found(made, instructions=1).judgements == 1
    html = show(client, made)
    assert "Judgements under other instructions are kept apart:" in html
    assert "version 1</a>" in html


def test_a_comparison_that_is_hidden_from_its_raters_is_left_out_and_said(client: Client) -> None:
    made = compared(number=2, leads_rate=True)
    made.judge(made.stage.bob)
    assert (found(made).judgements, found(made).hidden) == (0, 1)
    assert "since you are one of its raters" in show(client, made)
    made.judge(made.stage.bob)
    assert (found(made).judgements, found(made).hidden) == (2, 0)


def test_answers_are_held_against_references_where_there_are_any(client: Client) -> None:
    made = unplanned()
    assert "appear where test prompts have them" in show(client, made)
    prompt = made.stage.project.prompts.filter(split="test").earliest("pk")
    answer = made.newer.completions.get(prompt=prompt)
    Prompt.objects.filter(pk=prompt.pk).update(reference=answer.text)
    metrics = alone.task_metrics(made.stage.project)
    assert (metrics[1]["exact match"].value, metrics[0]["exact match"].value) == (1, 0)
    assert metrics[1]["exact match"].n == 1
    assert "Exact match" in show(client, made)


def test_perplexity_is_of_a_generation_s_own_answers_by_prompt(client: Client) -> None:
    made = unplanned()
    assert "Perplexity" not in show(client, made)
    answers = Completion.objects.filter(generation=made.newer, prompt__split="test").order_by("prompt")
    for written, (logprob, tokens) in zip(answers, [(-2.0, 4), (-6.0, 4), (-4.0, 4), (-8.0, 8)], strict=True):
        Completion.objects.filter(pk=written.pk).update(sum_logprob=logprob, token_count=tokens)
    # A token's surprise is 0.5, 1.5, 1 and 1 nats on four prompts: e¹, with Student's interval of their mean raised.
    expected = stats.ttest_1samp([0.5, 1.5, 1.0, 1.0], 0).confidence_interval()
    perplexity = alone.perplexities(made.stage.project)[1]
    assert (perplexity.value, perplexity.n) == (pytest.approx(math.e), 4)
    assert perplexity.interval == pytest.approx([math.exp(expected.low), math.exp(expected.high)])
    html = show(client, made)
    assert "lower is surer of itself" in html
    assert ">2.718" in html


def row_of(html: str, name: str) -> list[str]:
    """What a measure's row says of each generation, with its interval and n."""
    row = re.search(rf'<th class="wide" scope="row">{name}<p.*?</tr>', html)
    assert row is not None
    return [re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r'<td class="figure">(.*?)</td>', row[0])]


def test_test_reward_is_by_the_model_that_scored_most_generations_with_its_interval_over_prompts(
    client: Client,
) -> None:
    made = unplanned()
    assert "Reward<p" not in show(client, made)
    reward_model(made, 1, {0: [0.0, 1.0, 0.5, -0.5], 1: [1.0, 1.5, 1.75, 0.0]})
    reward_model(made, 2, {1: [9.0, 9.0, 9.0, 9.0]})
    # Means 1/4 and 17/16; squares around them 5/4 and 115/64; Student's quantile for three degrees is 3.182446, so
    # ± 3.182446·√(5/4/3/4) = 1.0271 and ± 3.182446·√(115/64/3/4) = 1.2315.
    html = show(client, made)
    assert [" ".join(cell.split()) for cell in row_of(html, "Reward")] == [
        "0.25 −0.7771 – 1.277 n = 4",
        "1.062 −0.169 – 2.294 n = 4",
    ]
    assert "On test prompts, by reward model 1." in html
    assert "n counts prompts" in html


def test_the_reward_of_a_prompt_is_the_mean_over_its_answers() -> None:
    made = unplanned()
    reward_model(made, 1, {0: [0.0, 1.0, 0.5, -0.5], 1: [1.0, 1.0, 1.0, 1.0]})
    answer = Completion.objects.filter(generation=made.newer, prompt__split="test").earliest("prompt_id")
    another = Completion.objects.create(
        prompt=answer.prompt, generation=made.newer, run=answer.run, text="Another one.", sample=1
    )
    scored = Signal.objects.get(completion=answer)
    Signal.objects.create(
        project=scored.project,
        completion=another,
        source=scored.source,
        version=scored.version,
        reward_model=scored.reward_model,
        value=4.0,
    )
    number, rewards = alone.rewards(made.stage.project)
    assert (number, rewards[1].value, rewards[1].n) == (1, (2.5 + 1 + 1 + 1) / 4, 4)


def test_the_kl_stands_with_its_interval_where_the_run_kept_it_by_prompt(client: Client) -> None:
    made = unplanned()
    assert row_of(show(client, made), "KL to the parent")[0] == "–"  # the base model has none
    assert " ".join(row_of(show(client, made), "KL to the parent")[1].split()) == "4.75 n = 64"
    made.newer.how_made["metrics"]["final"] = {"kl": 5.0, "kl_by_prompt": [4.0, 5.0, 6.0]}
    made.newer.save(update_fields=["how_made"])
    # 5 ± 4.302653·1/√3
    assert " ".join(row_of(show(client, made), "KL to the parent")[1].split()) == "5 2.516 – 7.484 n = 3"


def drawn(html: str) -> dict[str, object]:
    """What the chart is given."""
    found = re.search(r'data-sequence="([^"]+)"', html)
    assert found is not None
    points: dict[str, object] = json.loads(unescape(found[1]))
    return points


def test_the_chart_draws_strengths_with_their_intervals(client: Client) -> None:
    made = judged([1.0, 1.0, 0.0, 1.0] * 4)
    _base, newer = found(made).strengths  # type: ignore[misc]
    assert isinstance(newer, Estimate)
    assert newer.low is not None
    assert newer.high is not None
    # 400·log10(3 / 1); the bootstrap's interval is near ± 2.13·400/ln 10·√(16/(12·4))·√(16/15), of 15 degrees.
    points = drawn(show(client, made))
    assert points == {
        "x": [0, 1],
        "y": [0, 190.85],
        "low": [0, round(newer.low, 2)],
        "high": [0, round(newer.high, 2)],
        "line": 0,
        "share": False,
    }
    assert newer.high - newer.value == pytest.approx(220.6, rel=0.25)
    assert newer.value - newer.low == pytest.approx(newer.high - newer.value)


def test_the_chart_draws_no_interval_where_none_is_known(client: Client) -> None:
    made = unplanned(overlap=2)
    dora = member(made.stage, "dora")
    made.draw(1)
    made.judge(made.stage.bob, 1.0)
    made.judge(dora, 0.0)
    points = drawn(show(client, made))  # of one prompt, which says nothing of others
    assert (points["y"], points["low"], points["high"]) == ([0, 0], [0, None], [0, None])


def test_one_model_alone_is_explained(client: Client) -> None:
    stage = world()
    html = show(client, Compared(stage, stage.generation))
    assert "There is only one model: improve it" in html
    assert "Nothing is compared yet" not in html
