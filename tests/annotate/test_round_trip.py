"""What a lossless form exports can be imported into an empty database and exported again, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

from annotate.formats.writing.forms import FORMS
from annotate.models import Comparison, RankedList
from annotate.services.projects import DEFAULT_MODEL
from annotate.services.recipe import Recipe
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import collect_items, model_folder, world
from tests.annotate.test_rows import ids_of, judge, member, pair, ranked, ranks

pytestmark = pytest.mark.django_db

LOSSLESS = [form.name for form in FORMS.values() if form.lossless]


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", LOSSLESS)
def test_a_lossless_form_comes_back_byte_by_byte(tmp_path: Path, form: str, file_type: str) -> None:
    stage = world(prompts=3, overlap=4)
    collect_items(stage)
    for split in ("train", "dev", "test"):
        first, *_rest = ids_of(stage, split)
        judge(stage, {**ranks(ids_of(stage, split), 2, 1, 2), "edits": {str(first): " Better,\n\n你好 "}}, split=split)
    judge(stage, ranks(ids_of(stage), 2, 1, 2), rater=member(stage, "dora"))  # the same pairs once more
    judge(stage, ranks(ids_of(stage), 2, 2, 1, 3), rater=member(stage, "eve"))
    judge(stage, {"both_bad": True}, rater=member(stage, "fred"))
    pair(stage, "helpsteer", strength=-1.5, weight=0.25)
    ranked(stage, "lab", "prqs", 3, 1, None, 1, weight=2.0, strength=0.1 + 0.2)
    ranked(stage, "lab", "tu", 1, 1)
    create_snapshot(project=stage.project, actor=None, name="v1", recipe=Recipe(aggregation="every rater"))
    call_command("export", "garden/v1", format=form, out=tmp_path / "first")

    _empty_the_database()
    files = sorted((tmp_path / "first" / form).glob(f"*.{file_type}"))
    assert len(files) == 3
    for file in files:
        call_command("import_comparisons", file, project="empty")
    assert Comparison.objects.count() + RankedList.objects.count() == sum(
        len(path.read_bytes().splitlines()) for path in (tmp_path / "first" / form).glob("*.jsonl")
    )
    call_command("snapshot", project="empty", name="v1")
    call_command("export", "empty/v1", format=form, out=tmp_path / "second")
    for path in (tmp_path / "first" / form).iterdir():
        assert (tmp_path / "second" / form / path.name).read_bytes() == path.read_bytes(), path.name


def _empty_the_database() -> None:
    model_folder(DEFAULT_MODEL)  # that the command puts a new project on
    tables = ", ".join(f'"{model._meta.db_table}"' for model in apps.get_app_config("annotate").get_models())
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"TRUNCATE {tables} CASCADE")
