"""A project that has been at work for a while: people, answers, judgements and one turn of the loop.

The people judge by the site's own services. No model runs: the answers that are pictured are written down in
``answers.json``, and the figures of training are made up.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from django.db.models import F
from django.utils import timezone

from annotate.models import (
    AnswerKey,
    Check,
    Completion,
    Generation,
    Item,
    Lease,
    Membership,
    Project,
    Prompt,
    Purpose,
    Run,
    RunEvent,
    Slot,
    User,
)
from annotate.services import checks, contests, keys
from annotate.services.claiming import claim
from annotate.services.guidelines import mark_read
from annotate.services.items import make_collect_items, make_evaluate_items
from annotate.services.judging import submit
from annotate.services.ondemand import make_on_demand
from annotate.services.projects import DEFAULT_MODEL
from annotate.services.sample import create_sample_project
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import model_folder, run, user
from tests.annotate.lineage import generation_of, reward_model_of

ANSWERS: dict[str, list[str]] = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))
"""Answers to the prompts that are pictured, the best first."""
PLAIN = (
    "Gladly. Here is a short answer that does what was asked, and nothing more.",
    "Here is an answer that does most of it.",
    "This one is on the topic, but leaves out what matters.",
    "I am not sure what to say about this, so I will say it again and",
)
STRAY = {"amara": 0.5, "jonas": 0.7, "mei": 0.6, "tomas": 1.3}
"""How far each rater's impression of an answer strays, in points of a score."""
EACH_JUDGES = 40
EACH_COMPARES = 9
GOLD = 6
LAST = 2**62
"""A place in the queue that nobody comes to."""
UPDATES = 24


@dataclass(frozen=True)
class Stage:
    """What the pictures are taken of."""

    project: Project
    people: dict[str, User]


def prepare() -> Stage:
    """Make the project, and let its people work."""
    draw = random.Random(7)
    model_folder(DEFAULT_MODEL)
    people = {name: user(name) for name in ("helen", *STRAY)}
    lead = people["helen"]
    settings = {"overlap": 3, "gold_rate": 0.1, "repeat_rate": 0.05, "adjudicate_above": 0.2, "strength_on": True}
    project = create_sample_project(slug=None, actor=lead, **settings)
    for name in STRAY:
        Membership.objects.create(user=people[name], project=project, role=Membership.Role.RATER)
    for person in people.values():
        mark_read(user=person, guideline=project.guidelines.get())

    base = project.generations.get()
    _answer(base, _run(project, "generate", lead, 312, generation=base), ANSWERS | {"": list(PLAIN)})
    make_collect_items(project=project, generation=base)
    Slot.objects.filter(project=project).update(priority=F("pk"), lottery=F("pk"))
    _keep_for_pictures(project)
    for number in range(GOLD):
        judgement = _judge(draw, lead, project, stray=0.0)
        keys.make(judgement=judgement, use=AnswerKey.Use.GOLD, explanation=EXPLANATIONS[number % 2], actor=lead)
    _contest(draw, project, people["tomas"])
    for name, stray in STRAY.items():
        for _n in range(EACH_JUDGES):
            _judge(draw, people[name], project, stray)
    _turn_the_loop(project, lead)
    _keep_for_pictures(project)
    for name, stray in STRAY.items():
        for _n in range(EACH_COMPARES):
            _judge(draw, people[name], project, stray)
    return Stage(project, people)


EXPLANATIONS = (
    "The first one does all that was asked. The last one **breaks off**, and what is there says nothing.",
    "Two of them are right, but only one can be used as it is.",
)


def hand(stage: Stage, name: str, prompt: str, purpose: Item.Purpose, order: Sequence[int]) -> Slot:
    """Give a rater the item of a prompt.

    :param order: places of its answers in the order of their making, as the rater is to see them.
    """
    slots = Slot.objects.filter(project=stage.project, item__purpose=purpose, state=Slot.State.FREE)
    slot = next(slot for slot in slots.select_related("item__prompt") if _last_words(slot.item.prompt) == prompt)
    rater = stage.people[name]
    Slot.objects.filter(rater=rater, state=Slot.State.LEASED).update(
        state=Slot.State.FREE, rater=None, lease_expires_at=None, ahead=False
    )
    slot.state, slot.rater, slot.lease_expires_at = Slot.State.LEASED, rater, timezone.now() + timedelta(minutes=30)
    slot.order_seed = next(seed for seed in count() if _shuffled(len(order), seed) == list(order))
    slot.save()
    Lease.objects.create(slot=slot, rater=rater)
    return slot


def _shuffled(size: int, seed: int) -> list[int]:
    """What :attr:`annotate.models.Slot.shown` makes of 0, 1, 2 and so on."""
    places = list(range(size))
    random.Random(seed).shuffle(places)
    return places


def _answer(generation: Generation, made_by: Run, texts: dict[str, list[str]], first: int = 0) -> None:
    """Store answers of a generation, by the last words of their prompts, "" for all that are not named."""
    Completion.objects.bulk_create(
        Completion(
            prompt=prompt,
            generation=generation,
            sample=first + sample,
            run=made_by,
            text=text,
            token_count=len(text.split()),
            finish_reason="stop",
            engine="vllm",
            engine_version="0.32.0",
        )
        for prompt in generation.project.prompts.all()
        for sample, text in enumerate(_texts_for(prompt, texts))
    )


def _texts_for(prompt: Prompt, texts: dict[str, list[str]]) -> Iterator[str]:
    known = texts.get(_last_words(prompt), texts[""])
    # Some prompts in pictures have fewer answers written down than an item shows.
    yield from [*known, *texts[""]][: len(texts[""])]


def _last_words(prompt: Prompt) -> str:
    words: str = prompt.messages[-1]["content"]
    return words


def _keep_for_pictures(project: Project) -> None:
    pictured = [prompt.pk for prompt in project.prompts.all() if _last_words(prompt) in ANSWERS]
    Slot.objects.filter(item__prompt__in=pictured, state=Slot.State.FREE).update(priority=LAST, lottery=LAST)


def _judge(draw: random.Random, rater: User, project: Project, stray: float, *, upside_down: bool = False) -> Any:
    """Judge the rater's next item: what an answer is worth, give or take."""
    slot = claim(user=rater, project=project)
    assert slot is not None
    worth = {
        completion.pk: WORTH[completion.generation.number, completion.sample] + draw.gauss(0, stray)
        for completion in slot.item.completions.select_related("generation")
        if completion.generation is not None
    }
    if upside_down:
        worth = {pk: 6 - value for pk, value in worth.items()}
    criteria = list(project.criteria.values_list("pk", flat=True))
    raw: dict[str, Any] = {
        "ranks": _places(worth),
        "scores": {
            str(pk): {str(criterion): _score(value + draw.gauss(0, 0.4)) for criterion in criteria}
            for pk, value in worth.items()
        },
        "active_ms": draw.randrange(25_000, 120_000),
    }
    if len(worth) == 2 and len(set(raw["ranks"].values())) == 2:
        raw["strength"] = draw.choice([1, 2, 2, 3])
    return submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw).judgement


WORTH: dict[tuple[int, int | None], float] = {
    (0, 0): 4.6,
    (0, 1): 3.7,
    (0, 2): 2.6,
    (0, 3): 1.6,
    (0, 10): 3.0,
    (1, 0): 3.6,
}
"""Of an answer, in points of a score, by its generation and number."""


def _score(value: float) -> int:
    return min(5, max(1, round(value)))


def _places(worth: dict[int, float]) -> dict[str, int]:
    """Ranks by worth, where what is nearly equal shares a place."""
    places: dict[str, int] = {}
    place, before = 0, float("inf")
    for pk, value in sorted(worth.items(), key=lambda entry: -entry[1]):
        if before - value > 0.3:
            place += 1
        places[str(pk)], before = place, value
    return places


def _run(project: Project, kind: str, lead: User, seconds: int, **fields: Any) -> Run:
    """A run that took so many seconds and went well."""
    end = timezone.now()
    times = {"started_at": end - timedelta(seconds=seconds), "finished_at": end, "attempt": 1}
    return run(project, kind, state=Run.State.SUCCEEDED, requested_by=lead, **times, **fields)


def _turn_the_loop(project: Project, lead: User) -> None:
    base = project.generations.get()
    snapshot = create_snapshot(project=project, actor=lead)
    trained = _run(project, "train_reward", lead, 173, snapshot=snapshot, generation=base)
    metrics = {
        "dev": {"loss": 0.61, "accuracy": 0.78},
        "test": {"accuracy": 0.764, "accuracy_ci": [0.701, 0.822], "length_only_accuracy": 0.583, "pairs": 214},
        "training": {"steps": 96, "best_step": 72},
    }
    reward_model = reward_model_of(trained, weight_hash="4f1d" * 16, loss="listmle", metrics=metrics)
    improved = _run(project, "improve", lead, 1480, reward_model=reward_model, generation=base)
    RunEvent.objects.bulk_create(_updates(improved))
    newer = generation_of(improved, weight_hash="9c2e" * 16, how_made={"method": "PPO", "metrics": {}})
    evaluated = _run(project, "evaluate", lead, 96, generation=newer)
    _answer(newer, evaluated, {text: four[:1] for text, four in ANSWERS.items()} | {"": [PLAIN[0]]})
    _answer(base, evaluated, {text: four[1:2] for text, four in ANSWERS.items()} | {"": [PLAIN[1]]}, first=10)
    make_evaluate_items(project=project, newer=newer, older=base, run=evaluated, seed=0)


def _updates(improved: Run) -> Iterator[RunEvent]:
    """Progress of PPO: a reward that rises while the policy moves away from its parent."""
    draw = random.Random(3)
    for number in range(1, UPDATES + 1):
        share = number / UPDATES
        yield RunEvent(
            run=improved,
            attempt=1,
            sequence=number,
            at=improved.started_at or timezone.now(),
            stage="ppo",
            done=number,
            total=UPDATES,
            metrics={
                "update": number,
                "reward": round(-0.4 + 1.3 * share**0.7 + draw.gauss(0, 0.07), 3),
                "kl": round(5.5 * share**0.8 + abs(draw.gauss(0, 0.15)), 3),
                "end_rate": round(0.55 + 0.3 * share + draw.gauss(0, 0.02), 3),
                "length": round(44 - 6 * share + draw.gauss(0, 1.2), 1),
            },
        )


def _contest(draw: random.Random, project: Project, rater: User) -> None:
    """A rater who sees it the other way round objects to a key."""
    key = AnswerKey.objects.earliest("pk")
    make_on_demand(item=key.item, purpose=Purpose.GOLD, rater=rater, actor=None)
    _judge(draw, rater, project, stray=0.5, upside_down=True)
    checks.reveal(user=rater, project=project)
    contests.contest(
        check=Check.objects.get(key=key, judgement__rater=rater),
        reason="The second answer is right as well: the key marks it down for its length alone.",
        user=rater,
    )
