"""Generating through a server of other people's: what is recorded, what is refused, what stays secret."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core import serializers
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from annotate.models import Completion, Generation, Run, RunEvent
from annotate.services import Refused
from annotate.services.execute import execute
from annotate.services.files import run_folder
from annotate.services.runs import launch_evaluate, launch_generate, launch_improve
from tests.annotate.factory import World, world
from tests.policy.conftest import make_model
from tests.policy.servers import Reply, ScriptedServer, chat_completion

pytestmark = pytest.mark.django_db

KEY = "sk-not-for-the-database-91d0"


@pytest.fixture
def server(settings, monkeypatch) -> Iterator[ScriptedServer]:
    """A server, and a site that is set to generate through it."""
    with ScriptedServer() as server:
        settings.HONE_ENGINE = "openai"
        settings.HONE_OPENAI_BASE_URL = server.base_url
        settings.HONE_OPENAI_MODEL = "served"
        monkeypatch.setenv("HONE_OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("HONE_OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def stage() -> Iterator[World]:
    """A project on a tiny model."""
    folder = Path(settings.MODELS_DIR) / "tiny-behind-a-server"
    shutil.rmtree(folder, ignore_errors=True)
    make_model(folder)
    stage = world(prompts=3)
    Generation.objects.update(weights_path=str(folder))
    yield stage
    shutil.rmtree(folder, ignore_errors=True)


def test_the_command_records_answers_that_name_the_server_and_the_key_nowhere(
    server: ScriptedServer, stage: World
) -> None:
    server.well = Reply(body=lambda asked: chat_completion(f"Answer {asked['seed']}."))
    output = io.StringIO()
    call_command("generate", project=stage.project.slug, stdout=output)
    assert "12 completions; 3 items in the project." in output.getvalue()
    assert KEY not in output.getvalue()
    asked = Run.objects.get()
    made = Completion.objects.filter(run=asked)
    assert set(made.values_list("engine", "engine_version")) == {("openai", "127.0.0.1: served")}
    assert set(made.values_list("generation__number", "sum_logprob", "token_count")) == {(0, None, 2)}
    assert {chat.headers["Authorization"] for chat in server.chats} == {f"Bearer {KEY}"}
    engine = json.loads((run_folder(asked) / "spec.json").read_text())["job"]["engine"]
    assert (engine["name"], engine["base_url"], engine["served_model"]) == ("openai", server.base_url, "served")
    assert not _holders_of_the_key(asked)


def test_a_server_that_refuses_the_key_fails_the_run_with_a_sentence_and_without_the_key(
    server: ScriptedServer, stage: World
) -> None:
    server.models = Reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}."}})
    asked = launch_generate(project=stage.project, actor=stage.alice, ring=False)
    assert execute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "failed"
    assert asked.error == (
        f"{server.base_url}/models answered HTTP 401: “Incorrect API key provided: [the key]”. "
        "Set HONE_OPENAI_API_KEY to a key that may use this model, in the environment of the workers."
    )
    assert not _holders_of_the_key(asked)


def _holders_of_the_key(asked: Run) -> list[str]:
    """What was written on a run, in the database and in its folder, and holds the key."""
    rows = [*Run.objects.filter(pk=asked.pk), *RunEvent.objects.filter(run=asked), *Completion.objects.all()]
    holders = ["the database"] if KEY in serializers.serialize("json", rows) else []
    files = [path for path in run_folder(asked).rglob("*") if path.is_file()]
    assert files
    return holders + [str(path) for path in files if KEY.encode() in path.read_bytes()]


def test_the_page_starts_it_and_shows_the_engine(client: Client, server: ScriptedServer, stage: World) -> None:
    client.force_login(stage.alice)
    started = client.post(
        reverse("launch", args=[stage.project.slug, "generate"]), {"splits": ["train", "dev", "test"]}, follow=True
    )
    page = started.content.decode()
    assert "engine.name" in page
    assert "openai" in page
    assert server.base_url in page
    assert KEY not in page


def test_what_needs_other_weights_than_the_servers_is_refused_before_it_is_queued(
    server: ScriptedServer, stage: World
) -> None:
    newer = Generation.objects.create(
        project=stage.project, number=1, parent=stage.generation, weights_path=stage.generation.weights_path
    )
    with pytest.raises(Refused, match=r"Generation 1 is not at the server .* start the site with HONE_ENGINE=vllm"):
        launch_generate(project=stage.project, actor=stage.alice, generation=newer, ring=False)
    with pytest.raises(Refused, match="The generations to compare are not at the server"):
        launch_evaluate(project=stage.project, actor=stage.alice, ring=False)
    with pytest.raises(Refused, match="no reward model yet"):
        launch_improve(project=stage.project, actor=stage.alice, ring=False)
    assert not Run.objects.exists()
