"""Scores of texts that nobody judges: from a form, from a file, and by the command."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from annotate.formats.reading.catalogue import BY_NAME
from annotate.models import Generation, RewardModel, Run, Signal
from annotate.services import Refused
from annotate.services.execute import execute
from annotate.services.importing import Request
from annotate.services.imports import bring_file
from annotate.services.text_scores import read_texts, score, scored, texts_of
from tests.annotate.factory import World, world
from tests.annotate.test_uncertainty import reward_model_of
from tests.policy.conftest import make_model


@pytest.fixture
def brought(settings, tmp_path: Path) -> Iterator[World]:
    """A project of imported comparisons alone, on a tiny model."""
    settings.HONE_ENGINE = "transformers"
    folder = make_model(Path(settings.MODELS_DIR) / "tiny")
    stage = world(prompts=0)
    Generation.objects.update(weights_path=str(folder))
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"Yes, {n}.", "rejected": "No no no.", "split": split}
        for n, split in enumerate(("train", "train", "train", "dev", "test", "test"))
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = Request(path=path, format=BY_NAME["trl-preference"], source="hh")
    bring_file(project=stage.project, request=request, licence="", actor=stage.alice)
    yield stage
    shutil.rmtree(folder)


@pytest.mark.django_db(transaction=True)
def test_a_model_is_trained_on_imported_pairs_measured_and_scores_a_file_by_commands(
    brought: World, tmp_path: Path, client: Client
) -> None:
    said = io.StringIO()
    call_command("train_reward", project="garden", epochs=1, stdout=said, stderr=io.StringIO())
    model = RewardModel.objects.get()
    assert model.report.figures["accuracy"]["model"]["n"] == 2
    assert model.report.figures["slices"]["source"][0]["key"] == "hh"
    rows = [{"prompt": "Why?", "responses": ["So.", "No no no."]}, {"prompt": "Who?", "response": "Me."}]
    given, out = tmp_path / "texts.jsonl", tmp_path / "scores.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call_command("score", given, project="garden", out=out, stderr=io.StringIO())
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["responses"] for row in found] == [["So.", "No no no."], ["Me."]]
    assert all(isinstance(value, float) for row in found for value in row["scores"])
    assert found[0]["scores"][0] != found[0]["scores"][1]
    assert not Signal.objects.exists()
    client.force_login(brought.alice)
    made = Run.objects.get(kind="score")
    page = client.get(reverse("run", args=["garden", made.pk])).content.decode()
    assert "No no no." in page
    fetched = client.get(reverse("run_scores", args=["garden", made.pk]))
    assert b"".join(fetched.streaming_content) == out.read_bytes()  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
def test_answers_of_the_form_are_scored_by_a_run(brought: World, client: Client) -> None:
    call_command("train_reward", project="garden", epochs=1, stdout=io.StringIO(), stderr=io.StringIO())
    client.force_login(brought.alice)
    sent = {"prompt": "Why?", "responses": ["So.", "", "Because."]}
    answer = client.post(reverse("score_texts", args=["garden", 1]), sent)
    made = Run.objects.get(kind="score")
    assert answer["Location"] == reverse("run", args=["garden", made.pk])
    assert execute(made.pk)
    made.refresh_from_db()
    (row,) = scored(made)
    assert (row.messages, row.responses) == ([{"role": "user", "content": "Why?"}], ["So.", "Because."])
    assert row.deviations == [None, None]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "nothing to score"),
        ('{"prompt": "Why?"}\n', "Line 1: Enter at least one answer"),
        ('{"prompt": "Why?", "response": "So."}\n{"prompt": 3, "response": "So."}\n', "Line 2: It cannot be scored"),
        ('{"prompt": "Why?", "response": ""}\n', "is empty"),
        ('{"prompt": "Why?", "response": "So."\n', "cannot be read|not JSON|Line 1"),
    ],
)
def test_a_file_that_will_not_do_is_refused_by_line(content: str, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        read_texts(io.BytesIO(content.encode()))


def test_csv_needs_no_chat() -> None:
    (texts,) = read_texts(io.BytesIO(b"prompt,response\nWhy?,So.\n"))
    assert texts == texts_of("Why?", ["So."])


@pytest.mark.django_db
def test_two_leads_cannot_score_texts_at_once_and_nobody_scores_without_a_model() -> None:
    stage = world(prompts=0)
    model = reward_model_of(stage)
    score(reward_model=model, texts=[texts_of("Why?", ["So."])], actor=stage.alice, ring=False)
    with pytest.raises(Refused, match="already queued"):
        score(reward_model=model, texts=[texts_of("Why?", ["So."])], actor=stage.bob, ring=False)
    with pytest.raises(CommandError, match="no reward model 7"):
        call_command("score", "nowhere", project="garden", reward_model=7)
