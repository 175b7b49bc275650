"""What a lossless form exports can be imported into an empty project and exported again, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import call_command

from annotate.formats.writing.forms import FORMS
from annotate.models import Comparison
from annotate.services.projects import create_project
from annotate.services.recipe import Recipe
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import GARDEN, collect_items, model_folder, world
from tests.annotate.test_rows import ids_of, judge, member, pair, ranks

pytestmark = pytest.mark.django_db

LOSSLESS = [form.name for form in FORMS.values() if form.lossless]


@pytest.mark.parametrize("file_type", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", LOSSLESS)
def test_a_lossless_form_comes_back_byte_by_byte(tmp_path: Path, form: str, file_type: str) -> None:
    stage = world(prompts=3, overlap=3)
    collect_items(stage)
    for split in ("train", "dev", "test"):
        first, *_rest = ids_of(stage, split)
        judge(stage, {**ranks(ids_of(stage, split), 2, 1, 2), "edits": {str(first): " Better,\n\n你好 "}}, split=split)
    judge(stage, ranks(ids_of(stage), 2, 1, 2), rater=member(stage, "dora"))  # the same pairs once more
    pair(stage, "helpsteer", strength=-1.5, weight=0.25)
    create_snapshot(project=stage.project, actor=None, name="v1", recipe=Recipe(aggregation="every rater"))
    call_command("export", "garden/v1", format=form, out=tmp_path / "first")

    empty = create_project(description=GARDEN, slug="empty", base_model=str(model_folder()), actor=None)
    files = sorted((tmp_path / "first" / form).glob(f"*.{file_type}"))
    assert len(files) == 3
    for file in files:
        call_command("import_comparisons", file, project="empty")
    assert Comparison.objects.filter(project__slug="empty").count() == sum(
        len(path.read_bytes().splitlines()) for path in (tmp_path / "first" / form).glob("*.jsonl")
    )
    create_snapshot(project=empty, actor=None, name="v1")
    call_command("export", "empty/v1", format=form, out=tmp_path / "second")
    for path in (tmp_path / "first" / form).iterdir():
        assert (tmp_path / "second" / form / path.name).read_bytes() == path.read_bytes(), path.name
