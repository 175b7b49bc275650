"""Making a project out of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotate.models import AuditEvent, Membership, Project
from annotate.services import Refused
from annotate.services.description import read_description
from annotate.services.projects import create_project
from annotate.services.sample import FOLDER
from tests.annotate.factory import model_folder, user


def written(tmp_path: Path, **changes: Any) -> Path:
    """The sample's description with some fields changed; None takes a field away."""
    content = json.loads((FOLDER / "project.json").read_text()) | changes
    path = tmp_path / "project.json"
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": None}, "name: Field required"),
        ({"slug": "two words"}, "slug: String should match pattern"),
        ({"protocol": {"scores": True}}, "protocol.scores: Extra inputs are not permitted"),
        ({"sampling": {"temperature": 0}}, "sampling.temperature: Input should be greater than 0"),
        ({"completions_per_item": 1}, "completions_per_item: Input should be greater than or equal to 2"),
        ({"criteria": [{"name": "Grammar", "anchors": {"1": "bad"}}]}, "criteria.0.anchors: Dictionary should have at"),
    ],
)
def test_a_description_that_will_not_do_is_refused_by_place(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused, match="does not describe a project") as refusal:
        read_description(written(tmp_path, **changes))
    assert sentence in str(refusal.value)


def test_a_file_that_is_no_json_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    path.write_text('{\n "slug": "a",\n oops\n}')
    with pytest.raises(Refused, match=r"not JSON: .* in line 3"):
        read_description(path)
    with pytest.raises(Refused, match="cannot be read: No such file"):
        read_description(tmp_path / "nowhere.json")


@pytest.mark.django_db
def test_a_project_is_made_as_described_and_led_by_its_maker(tmp_path: Path) -> None:
    alice = user("alice")
    description = read_description(written(tmp_path, overlap=3, protocol={"rank": True, "edit": False}))
    project = create_project(description=description, base_model=str(model_folder()), actor=alice, slug="second")
    assert (project.slug, project.overlap, project.edit_on, project.completions_per_item) == ("second", 3, False, 4)
    assert [c.name for c in project.criteria.all()] == ["Helpfulness", "Correctness", "Language"]
    assert project.guidelines.get().in_language("text", "zh-hans").startswith("## 您会看到什么")
    assert project.generations.get().state == "promoted"
    assert Membership.objects.get(project=project).role == "lead"
    assert AuditEvent.objects.get(action="created").actor == alice


@pytest.mark.django_db
@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_model_that_will_not_do_leaves_no_project(tmp_path: Path, missing: str) -> None:
    folder = model_folder("unfit")
    (folder / missing).unlink()
    with pytest.raises(Refused, match=str(folder)):
        create_project(description=read_description(written(tmp_path)), base_model=str(folder), actor=None)
    assert not Project.objects.exists()


@pytest.mark.django_db
def test_a_taken_slug_is_refused(tmp_path: Path) -> None:
    description = read_description(written(tmp_path))
    create_project(description=description, base_model=str(model_folder()), actor=None)
    with pytest.raises(Refused, match="There is a project first-light already"):
        create_project(description=description, base_model=str(model_folder()), actor=None)
