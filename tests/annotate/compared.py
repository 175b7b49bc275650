"""A generation beside its parent, as raters compare them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from annotate.models import (
    Completion,
    Evaluation,
    Generation,
    Judgement,
    RewardModel,
    Run,
    Signal,
    Slot,
    Snapshot,
    User,
)
from annotate.services.claiming import claim
from annotate.services.evaluations import plan
from annotate.services.items import make_evaluate_items
from annotate.services.judging import submit
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import World, collect_items, completions, model_folder, run, world
from tests.annotate.lineage import UPDATES, ended, generation_of, judge


@dataclass
class Compared:
    """A planned comparison; by default Bob's, of three of four test prompts."""

    stage: World
    newer: Generation

    @property
    def evaluation(self) -> Evaluation:
        """The plan that was made last."""
        found = self.newer.evaluations.last()
        assert found is not None
        return found

    def draw(self, number: int | None, *, leads_rate: bool | None = False, seed: int = 0) -> int:
        """Plan, and draw as many prompts as the plan says."""
        drawn = plan(newer=self.newer, number=number, leads_rate=leads_rate, actor=self.stage.alice)
        older = self.newer.parent
        assert older is not None
        return make_evaluate_items(
            project=self.stage.project,
            newer=self.newer,
            older=older,
            run=Run.objects.filter(kind="evaluate", generation=self.newer).latest("created_at"),
            seed=seed,
            evaluation=self.newer.evaluations.last(),
            number=drawn,
        )

    def judge(self, rater: User, outcome: float = 1.0) -> Judgement:
        """Judge the rater's next pair: 1 prefers the newer one, ½ neither, 0 the older one."""
        slot = claim(user=rater, project=self.stage.project)
        assert slot is not None
        assert slot.item.evaluation_id is not None
        return self.answer(slot, rater, outcome)

    def answer(self, slot: Slot, rater: User, outcome: float, version: int | None = None) -> Judgement:
        """Judge one slot, or change the version of a judgement that is there."""
        places = {True: 1 if outcome >= 0.5 else 2, False: 1 if outcome <= 0.5 else 2}
        answers = Completion.objects.filter(items=slot.item)
        raw = {"ranks": {str(c.pk): places[c.generation_id == self.newer.pk] for c in answers}}
        judgement = submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw, version=version).judgement
        assert judgement is not None
        return judgement


def unplanned(*, prompts: int = 12, **protocol: Any) -> Compared:
    """Two generations that have answered every prompt, a third of which are test prompts."""
    stage = world(prompts=prompts, **protocol)
    improved = run(stage.project, "improve", generation=stage.generation, **ended())
    how = {"method": "PPO", "job": {"kl_target": 6.0}, "metrics": {"updates": UPDATES}}
    newer = generation_of(improved, weight_hash="b" * 64, how_made=how)
    evaluated = completions(newer, samples=1, kind="evaluate")
    completions(stage.generation, samples=1, kind="evaluate", first=10, made_by=evaluated)
    return Compared(stage, newer)


def compared(*, number: int = 3, prompts: int = 12, leads_rate: bool = False, **protocol: Any) -> Compared:
    """The same with a comparison that is planned and drawn."""
    made = unplanned(prompts=prompts, **protocol)
    made.draw(number, leads_rate=leads_rate)
    return made


def reward_model(made: Compared, number: int, scores: dict[int, list[float]]) -> RewardModel:
    """A reward model and its scores of each generation's answers to the test prompts."""
    snapshot = Snapshot.objects.first()
    if snapshot is None:
        collect_items(made.stage)
        judge(made.stage)
        snapshot = create_snapshot(project=made.stage.project, actor=made.stage.alice)
    trained = run(made.stage.project, "train_reward", snapshot=snapshot, job={"seed": number}, **ended())
    model = RewardModel.objects.create(
        project=made.stage.project,
        number=number,
        run=trained,
        snapshot=snapshot,
        weights_path=str(model_folder("reward")),
        manifest_sha256="a" * 64,
        loss="logistic",
        metrics={},
    )
    for generation, values in scores.items():
        answers = Completion.objects.filter(
            generation__number=generation, run__kind="evaluate", prompt__split="test"
        ).order_by("prompt_id")
        for answer, value in zip(answers, values, strict=True):
            Signal.objects.create(
                project=made.stage.project,
                completion=answer,
                source="reward_model",
                version=str(number),
                reward_model=model,
                value=value,
            )
    return model
