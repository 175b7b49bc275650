"""The cast and stage of the web tests: Alice leads, Bob rates, Charlie is a stranger."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from annotate.models import (
    BackgroundTask,
    Completion,
    Criterion,
    Generation,
    Membership,
    Project,
    Run,
    Snapshot,
    User,
)
from annotate.services.archive import shelf
from annotate.services.description import ProjectDescription
from annotate.services.guidelines import mark_read
from annotate.services.items import make_collect_items
from annotate.services.projects import create_project
from annotate.services.prompts import PromptRow, add_prompts


def model_folder(name: str = "bare") -> Path:
    """A folder that looks like a model to the web side, which never loads one."""
    folder = Path(settings.MODELS_DIR) / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def user(name: str, **fields: Any) -> User:
    """A user who can be signed in with force_login."""
    return User.objects.create(username=name, password="!", **fields)


@dataclass
class World:
    """A project with its people."""

    project: Project
    alice: User
    bob: User
    charlie: User
    criterion: Criterion
    generation: Generation


GARDEN = ProjectDescription.model_validate(
    {
        "slug": "garden",
        "name": "Garden",
        "instructions": "Prefer the answer that helps.",
        "criteria": [
            {
                "name": "Helpfulness",
                "description": "Does it help?",
                "anchors": {str(n): f"word {n}" for n in range(1, 6)},
            }
        ],
    }
)


def world(*, prompts: int = 3, slug: str = "garden", **protocol: Any) -> World:
    """A project with a lead, a rater, a stranger, one criterion, and prompts split train, dev, test in turn.

    Lead and rater have read the instructions.
    """
    alice, bob, charlie = user("alice"), user("bob"), user("charlie")
    project = create_project(
        description=GARDEN,
        slug=slug,
        base_model=str(model_folder()),
        actor=alice,
        **{"random_share": 0.0, **protocol},
    )
    Membership.objects.create(user=bob, project=project, role=Membership.Role.RATER)
    splits = ("train", "dev", "test")
    rows = [
        PromptRow([{"role": "user", "content": f"Question number {n}?"}], split=splits[n % 3]) for n in range(prompts)
    ]
    add_prompts(project=project, rows=rows, actor=alice)
    for reader in (alice, bob):
        mark_read(user=reader, guideline=project.guidelines.get())
    return World(project, alice, bob, charlie, project.criteria.get(), project.generations.get())


def run(project: Project, kind: str = "generate", **fields: Any) -> Run:
    """A run's row; its key is its own, so that many may be active."""
    return Run.objects.create(project=project, kind=kind, key=f"{kind}-{secrets.token_hex(4)}", **{"job": {}, **fields})


def waiting_task(snapshot: Snapshot) -> BackgroundTask:
    """A form of a snapshot that somebody asked for and nobody has begun to write."""
    asked = {"snapshot": snapshot.pk, "form": "hh", "file_type": "csv"}
    return BackgroundTask.objects.create(
        project=snapshot.project, kind="export", asked=asked, key=secrets.token_hex(8), created_by=snapshot.created_by
    )


def kept_archive(project: Project) -> BackgroundTask:
    """An archive that a worker has written."""
    task = BackgroundTask.objects.create(project=project, kind=shelf.KIND, key=secrets.token_hex(8))
    task.result = shelf.write(project, {"weights": False}, None, lambda _stage, _done, _total: None)
    task.state = BackgroundTask.State.DONE
    task.finished_at = timezone.now()
    task.save()
    return task


def completions(
    generation: Generation, *, samples: int, kind: str = "generate", first: int = 0, made_by: Run | None = None
) -> Run:
    """Answers of a generation to every prompt of its project, each with a text of its own."""
    if made_by is None:
        now = timezone.now()
        over = {"state": Run.State.SUCCEEDED, "attempt": 1, "started_at": now, "finished_at": now}
        made_by = run(generation.project, kind, generation=generation, **(over if kind == "evaluate" else {}))
    Completion.objects.bulk_create(
        Completion(
            prompt=prompt,
            generation=generation,
            sample=sample,
            run=made_by,
            text=f"Answer {sample} of generation {generation.number} to prompt {prompt.pk}.",
            token_count=8,
            finish_reason="stop",
            engine="transformers",
            engine_version="5",
        )
        for prompt in generation.project.prompts.all()
        for sample in range(first, first + samples)
    )
    return made_by


def collect_items(stage: World, *, samples: int = 4) -> int:
    """Items of generation 0 for every prompt."""
    completions(stage.generation, samples=samples)
    return make_collect_items(project=stage.project, generation=stage.generation)
