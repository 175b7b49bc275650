"""An archive holds a project with all its provenance; restored elsewhere, it is the same project byte by byte."""

from __future__ import annotations

import json
import zipfile
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection, models

from annotate.models import (
    AuditEvent,
    Completion,
    Generation,
    Import,
    Judgement,
    Membership,
    Project,
    Run,
    Slot,
    Submission,
    User,
)
from annotate.services import Refused
from annotate.services.archive.columns import columns_of, left_out_of
from annotate.services.archive.kinds import KINDS, LEFT_OUT, OF_PEOPLE, PEOPLE_LEFT_OUT
from annotate.services.archive.restoring import restore_project
from annotate.services.archive.writing import make_archive
from annotate.services.claiming import claim
from annotate.services.files import run_folder, stored
from annotate.services.snapshots import content_sha256, create_snapshot
from annotate.views.letters import stored_answer
from rewardmodel.publish import publish
from tests.annotate.factory import model_folder, user, world
from tests.annotate.rich import rich_project


def empty_database() -> None:
    """Leave the database as it is after its migrations."""
    tables = ", ".join(f'"{model._meta.db_table}"' for model in apps.get_app_config("annotate").get_models())
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


def archived(project: Project, folder: Path, name: str = "archive.zip", **options: Any) -> Path:
    return make_archive(project=project, path=folder / name, actor=None, **options).path


def rows_of(path: Path) -> dict[str, list[Any]]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.startswith("rows/")]
        return {name: [json.loads(line) for line in archive.read(name).splitlines()] for name in members}


def exported(project: Project, folder: Path) -> dict[str, bytes]:
    """Every form of every snapshot, JSON Lines, Parquet and CSV, with cards and manifests."""
    for snapshot in project.snapshots.all():
        out = folder / snapshot.name
        call_command("export", f"{project.slug}/{snapshot.name}", format="all", out=out, stdout=StringIO())
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.django_db(transaction=True)
def test_a_project_restored_into_an_empty_site_is_equal_in_archive_exports_and_snapshots(tmp_path: Path) -> None:
    project = rich_project().project
    first = archived(project, tmp_path, "first.zip")
    before = exported(project, tmp_path / "before")
    hashes = dict(project.snapshots.values_list("name", "sha256"))
    assert len(hashes) == 5
    numbers = set(Completion.objects.values_list("pk", flat=True))
    empty_database()

    done = restore_project(path=first)

    assert archived(done.project, tmp_path, "second.zip").read_bytes() == first.read_bytes()
    assert exported(done.project, tmp_path / "after") == before
    assert {s.name: content_sha256(s) for s in done.project.snapshots.all()} == hashes
    assert set(Completion.objects.values_list("pk", flat=True)) == numbers  # they were free
    Completion.objects.create(prompt=done.project.prompts.earliest("pk"), text="The next number is free too.")


@pytest.mark.django_db
def test_a_project_restored_beside_itself_and_once_more_differs_in_its_address_alone(tmp_path: Path) -> None:
    project = rich_project().project
    first = archived(project, tmp_path, "first.zip")
    before = exported(project, tmp_path / "before")
    copy = restore_project(path=first, slug="copy").project
    again = restore_project(path=archived(copy, tmp_path, "second.zip"), slug="again").project
    assert not set(again.prompts.values_list("pk")) & set(project.prompts.values_list("pk"))
    rows = rows_of(first)
    rows["rows/project.jsonl"][0]["slug"] = "again"
    assert rows_of(archived(again, tmp_path, "third.zip")) == rows
    after = exported(again, tmp_path / "after")
    data = [name for name in before if name.endswith((".jsonl", ".parquet", ".csv"))]
    assert len(data) > 100
    assert {name: after[name] for name in data} == {name: before[name] for name in data}


@pytest.mark.django_db
def test_numbers_within_texts_and_lists_name_the_rows_that_were_restored(tmp_path: Path) -> None:
    stage = rich_project()
    copy = restore_project(path=archived(stage.project, tmp_path), slug="copy").project
    submissions = Submission.objects.filter(slot__project=copy).select_related("slot__item")
    assert {submission.outcome for submission in submissions} == {"accepted", "late"}
    criteria = {str(pk) for pk in copy.criteria.values_list("pk", flat=True)}
    for sent in submissions:
        answers = {str(pk) for pk in sent.slot.item.completions.values_list("pk", flat=True)}
        named = {key for part in ("ranks", "scores", "edits", "flags", "norms") for key in sent.payload.get(part) or {}}
        assert named <= answers
        assert all(set(scores) <= criteria for scores in (sent.payload.get("scores") or {}).values())
    for judgement in Judgement.objects.filter(slot__project=copy):
        assert set(judgement.revisions.get(number=judgement.version).order_shown) == set(
            judgement.item.completions.values_list("pk", flat=True)
        )
        assert stored_answer(judgement.slot, judgement.rater) is not None
    moved, stayed = ((p.audit_events.filter(action="froze").earliest("pk")) for p in (copy, stage.project))
    assert copy.snapshots.filter(pk=moved.object_id).exists()
    assert stage.project.snapshots.filter(pk=stayed.object_id).exists()
    made = Generation.objects.get(project=copy, number=1)
    assert made.gate is not None
    assert Run.objects.get(pk=made.gate["run"]).project == copy
    done = copy.imports.filter(state=Import.State.DONE).earliest("pk")
    assert copy.comparisons.filter(batch=done.batch).exists()
    assert done.batch == stage.project.imports.filter(state=Import.State.DONE).earliest("pk").batch


@pytest.mark.django_db
def test_what_was_at_work_is_over_in_the_restored_project_and_work_goes_on(tmp_path: Path) -> None:
    stage = rich_project()
    assert stage.project.slots.filter(state=Slot.State.LEASED).exists()
    copy = restore_project(path=archived(stage.project, tmp_path), slug="copy").project
    assert not copy.slots.filter(state=Slot.State.LEASED).exists()
    assert set(copy.runs.values_list("state", flat=True)) == {"succeeded", "failed", "cancelled", "queued"} - {"queued"}
    assert not [found for found in copy.imports.all() if found.active or found.state == Import.State.READY]
    assert claim(user=stage.bob, project=copy) is not None
    snapshot = create_snapshot(project=copy, actor=None, name="later")
    assert snapshot == copy.snapshots.get(name="rule 0")  # the rows are equal, and so is their hash
    event = AuditEvent.objects.get(project=copy, action="restored")
    assert AuditEvent.objects.get(project=stage.project, action="archived").data["sha256"] == event.data["sha256"]


@pytest.mark.django_db(transaction=True)
def test_accounts_come_back_without_passwords_and_rights_and_those_of_the_same_name_are_taken(tmp_path: Path) -> None:
    stage = rich_project()
    User.objects.filter(pk=stage.alice.pk).update(is_superuser=True, email="alice@example.org", first_name="Alice")
    file = archived(stage.project, tmp_path)
    assert b"example.org" not in zipfile.ZipFile(file).read("rows/users.jsonl")
    empty_database()
    user("someone"), user("bob", first_name="Robert")
    done = restore_project(path=file)
    assert sorted(done.people) == ["alice", "dora", "kim", "robot"]
    alice = User.objects.get(username="alice")
    assert (alice.first_name, alice.email, alice.is_superuser, alice.has_usable_password()) == (
        "Alice",
        "",
        False,
        False,
    )
    assert User.objects.get(username="robot").kind == User.Kind.SIMULATED
    assert User.objects.get(username="bob").first_name == "Robert"
    assert Membership.objects.get(project=done.project, user__username="bob").role == Membership.Role.RATER
    assert not User.objects.filter(username="charlie").exists()  # a stranger to the project
    assert {s.name: content_sha256(s) for s in done.project.snapshots.all()} == dict(
        done.project.snapshots.values_list("name", "sha256")
    )


@pytest.mark.django_db
def test_weights_come_along_where_they_are_asked_for(tmp_path: Path, settings: Any) -> None:
    stage = rich_project()
    made = stage.project.generations.get(number=1)
    assert made.run is not None
    settings.HONE_DATA_DIR = tmp_path / "site"
    settings.RUNS_DIR, settings.MODELS_DIR = tmp_path / "site" / "runs", tmp_path / "site" / "models"
    for name in ("bare", "policy", "reward"):
        model_folder(name)
    folder = run_folder(made.run) / "output" / "model"
    folder.parent.mkdir(parents=True)
    sha256 = publish(folder, lambda target: (target / "model.safetensors").write_bytes(b"weights" * 1000))
    Generation.objects.filter(pk=made.pk).update(weights_path=stored(folder), manifest_sha256=sha256)
    stage.project.reward_models.all().update(weights_path=stored(folder), manifest_sha256=sha256)
    light, whole = archived(stage.project, tmp_path, "light.zip"), archived(stage.project, tmp_path, weights=True)
    assert "weights" not in " ".join(zipfile.ZipFile(light).namelist())

    settings.HONE_DATA_DIR = tmp_path / "other"
    (tmp_path / "other").mkdir()
    done = restore_project(path=whole, slug="copy")
    assert done.moved == {}
    path = Generation.objects.get(project=done.project, number=1).weights_path
    assert (tmp_path / "other" / path / "model.safetensors").read_bytes() == b"weights" * 1000
    assert path == stored(tmp_path / "other" / stored(folder).removeprefix(f"{tmp_path}/site/"))
    assert (tmp_path / "other" / "models" / "bare" / "config.json").is_file()
    second = archived(done.project, tmp_path, "second.zip", weights=True)
    assert zipfile.ZipFile(second).namelist() == zipfile.ZipFile(whole).namelist()
    restore_project(path=whole, slug="once-more")  # the same files are there already
    (tmp_path / "other" / path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(Refused, match="is there already, with other content"):
        restore_project(path=whole, slug="clash")


def test_every_model_and_column_is_kept_or_named_with_the_reason_why_not() -> None:
    ours = {model for model in apps.get_app_config("annotate").get_models() if not model._meta.auto_created}
    kept = {kind.model for kind in KINDS}
    assert kept | set(LEFT_OUT) | {User} == ours
    assert not kept & set(LEFT_OUT)
    assert {field.name for field in User._meta.concrete_fields} == {*OF_PEOPLE, *PEOPLE_LEFT_OUT}
    for kind in KINDS:
        fields = {field.name for field in kind.model._meta.concrete_fields if kind.numbered or not field.primary_key}
        assert {column.name for column in columns_of(kind)} | set(kind.left_out) == fields, kind.name
        assert all(kind.left_out.values()), kind.name
        assert {field.name for field in left_out_of(kind)} <= set(kind.left_out)


def test_whatever_rows_refer_to_is_numbered_and_comes_before_them_or_closes_the_circle() -> None:
    """So that restored rows can follow those that they refer to."""
    by_model = {kind.model: kind for kind in KINDS}
    order = [kind.name for kind in KINDS]
    circle = set(order[order.index("snapshots") : order.index("reward_models") + 1])
    for kind in KINDS:
        for field in kind.model._meta.concrete_fields:
            if isinstance(field, models.ForeignKey) and field.related_model is not User:
                target = by_model[field.related_model]
                assert target.numbered, (kind.name, field.name)
                earlier = order.index(target.name) <= order.index(kind.name)
                assert earlier or {kind.name, target.name} <= circle, (kind.name, field.name)


@pytest.mark.django_db
def test_the_commands_write_and_restore_and_say_what_they_did(tmp_path: Path) -> None:
    world()
    said = StringIO()
    call_command("archive", "garden", out=tmp_path / "a.zip", actor="alice", stdout=said)
    call_command("restore_project", tmp_path / "a.zip", slug="copy", actor="alice", stdout=said)
    assert "Restored copy: " in said.getvalue()
    assert AuditEvent.objects.get(action="restored").actor == User.objects.get(username="alice")
    assert Path(settings.HONE_DATA_DIR).exists()
