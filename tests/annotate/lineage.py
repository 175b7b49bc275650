"""One turn of the loop in records, for tests of the pages that show it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from annotate.models import Completion, Generation, Judgement, RewardModel, Run, Signal, Snapshot
from annotate.services.claiming import claim, shown_order
from annotate.services.items import make_evaluate_items
from annotate.services.judging import submit
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import World, collect_items, completions, model_folder, run

UPDATES = [
    {"update": 1, "samples": 64, "reward": 0.125, "kl": 0.0, "end_rate": 0.25},
    {"update": 9, "samples": 64, "reward": 1.375, "kl": 4.75, "end_rate": 0.875},
]
GATE = [{"generation": 0, "score": 0.0625, "end_rate": 0.5}, {"generation": 1, "score": 1.1875, "end_rate": 0.75}]


@dataclass
class Turn:
    """What one turn of the loop left behind."""

    stage: World
    judgement: Judgement
    snapshot: Snapshot
    reward_model: RewardModel
    run: Run
    generation: Generation
    completion: Completion


def judge(stage: World, *, reverse: bool = False, **more: object) -> Judgement:
    """Bob's judgement of his next item: answers ranked as shown, or the other way round."""
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    order = shown_order(slot)
    places = range(len(order), 0, -1) if reverse else range(1, len(order) + 1)
    raw = {"ranks": {str(pk): place for pk, place in zip(order, places, strict=True)}, **more}
    receipt = submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    assert receipt.judgement is not None
    return receipt.judgement


def ended(state: str = Run.State.SUCCEEDED) -> dict[str, Any]:
    """Fields of a run that is over."""
    return {"state": state, "attempt": 1, "started_at": timezone.now(), "finished_at": timezone.now()}


def reward_model_of(trained: Run, *, weight_hash: str, loss: str, metrics: dict[str, Any]) -> RewardModel:
    """The reward model that a run is said to have trained."""
    assert trained.snapshot is not None
    return RewardModel.objects.create(
        project=trained.project,
        number=1,
        run=trained,
        snapshot=trained.snapshot,
        weights_path=str(model_folder("reward")),
        manifest_sha256=weight_hash,
        loss=loss,
        metrics=metrics,
    )


def generation_of(improved: Run, *, weight_hash: str, **fields: Any) -> Generation:
    """The first generation after the base model, which a run is said to have made."""
    return Generation.objects.create(
        project=improved.project,
        number=1,
        parent=improved.generation,
        run=improved,
        weights_path=str(model_folder("policy")),
        manifest_sha256=weight_hash,
        **fields,
    )


def turn(stage: World) -> Turn:
    """Judge an item, train, improve and evaluate, without any model."""
    collect_items(stage)
    judgement = judge(stage, rationale="The first one answers the question.")
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    trained = run(stage.project, "train_reward", snapshot=snapshot, generation=stage.generation, **ended())
    metrics = {
        "dev": {"loss": 0.625, "accuracy": 0.9375},
        "test": {"accuracy": 0.8125, "accuracy_ci": [0.75, 0.875], "length_only_accuracy": 0.5625},
        "training": {"steps": 24, "best_step": 18},
        "score_mean": -0.25,
    }
    reward_model = reward_model_of(trained, weight_hash="a" * 64, loss="logistic", metrics=metrics)
    improved = run(stage.project, "improve", reward_model=reward_model, generation=stage.generation, **ended())
    generation = generation_of(
        improved,
        weight_hash="b" * 64,
        how_made={"method": "PPO", "metrics": {"updates": UPDATES}},
        gate={"run": str(improved.pk), "generations": GATE},
    )
    evaluated = completions(generation, samples=1, kind="evaluate")
    completions(stage.generation, samples=1, kind="evaluate", first=10, made_by=evaluated)
    make_evaluate_items(project=stage.project, newer=generation, older=stage.generation, run=evaluated, seed=0)
    completion = generation.completions.earliest("pk")
    Signal.objects.create(
        project=stage.project,
        completion=completion,
        source="reward_model",
        version="1",
        reward_model=reward_model,
        run=evaluated,
        value=1.5,
    )
    return Turn(stage, judgement, snapshot, reward_model, improved, generation, completion)
