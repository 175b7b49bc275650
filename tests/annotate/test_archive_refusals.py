"""An archive that is damaged, foreign or too much is refused with one sentence, and nothing of it stays."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from annotate.models import Origin, Project, Prompt, Run, User
from annotate.services import Refused
from annotate.services.archive import package
from annotate.services.archive.restoring import restore_project
from annotate.services.archive.writing import make_archive
from tests.annotate.rich import rich_project
from tests.annotate.test_archive import empty_database

Members = dict[str, bytes]
Change = Callable[[Members, dict[str, Any]], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Path:
    """An archive of a project in which everything has happened; the database is empty."""
    with django_db_blocker.unblock():
        made = make_archive(
            project=rich_project().project, path=tmp_path_factory.mktemp("good") / "good.zip", actor=None
        )
        empty_database()
    return made.path


def changed(good: Path, path: Path, change: Change, *, honest: bool = True) -> Path:
    """An archive with a change in its members or its manifest.

    :param honest: whether the manifest then tells the hashes that the members have.
    """
    with zipfile.ZipFile(good) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(members, manifest)
    for name, content in members.items() if honest and isinstance(manifest["members"], dict) else ():
        entry = manifest["members"].setdefault(name, {})
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(name, content)
    return path


def in_line(member: str, line: int, **values: Any) -> Change:
    """Set columns in a line of a member."""

    def change(members: Members, _manifest: dict[str, Any]) -> None:
        lines = members[f"rows/{member}.jsonl"].splitlines()
        lines[line - 1] = json.dumps({**json.loads(lines[line - 1]), **values}).encode()
        members[f"rows/{member}.jsonl"] = b"\n".join(lines) + b"\n"

    return change


def text(member: str, line: int, content: bytes) -> Change:
    """Put something else in place of a line of a member."""

    def change(members: Members, _manifest: dict[str, Any]) -> None:
        lines = members[f"rows/{member}.jsonl"].splitlines()
        lines[line - 1] = content
        members[f"rows/{member}.jsonl"] = b"\n".join(lines) + b"\n"

    return change


def in_manifest(**values: Any) -> Change:
    return lambda _members, manifest: manifest.update(values)


def added(name: str, content: bytes = b"x") -> Change:
    return lambda members, _manifest: members.update({name: content})


def twice(member: str) -> Change:
    def change(members: Members, _manifest: dict[str, Any]) -> None:
        members[f"rows/{member}.jsonl"] += members[f"rows/{member}.jsonl"].splitlines(keepends=True)[0]

    return change


def without(member: str) -> Change:
    def change(members: Members, manifest: dict[str, Any]) -> None:
        del members[f"rows/{member}.jsonl"], manifest["members"][f"rows/{member}.jsonl"]

    return change


def weights_to(path: str) -> Change:
    def change(members: Members, manifest: dict[str, Any]) -> None:
        manifest["weights"] = [{"name": "0", "path": path}]
        members["weights/0/model.safetensors"] = b"x"

    return change


WRONG: list[tuple[Change, str]] = [
    (in_line("prompts", 2, split="exam"), "rows/prompts.jsonl, line 2: it breaks the rule prompt_split_known"),
    (in_line("prompts", 2, split="examination"), "rows/prompts.jsonl, line 2: value too long"),
    (in_line("prompts", 3, messages="hi"), "rows/prompts.jsonl, line 3: messages: 'hi' has not the form of messages"),
    (in_line("criteria", 1, anchors={"1": 2}), "rows/criteria.jsonl, line 1: anchors: .* has not the form of anchors"),
    (in_line("runs", 1, progress={"message": "hi\x00"}), "rows/runs.jsonl, line 1: unsupported Unicode"),
    (in_line("runs", 1, progress=[]), "rows/runs.jsonl, line 1: progress: it must be an object"),
    (in_line("prompts", 3, split=7), "rows/prompts.jsonl, line 3: split: 7 is not text"),
    (in_line("prompts", 3, tags="a"), "rows/prompts.jsonl, line 3: tags: 'a' is not a list"),
    (in_line("prompts", 3, id=4000), "rows/prompts.jsonl, line 3: id: the archive has no prompt 4000"),
    (in_line("prompts", 1, created_at="infinity"), "line 1: created_at: 'infinity' is not a time"),
    (in_line("prompts", 1, colour="red"), "line 1: this version of Hone does not know its colour"),
    (twice("norms"), r"rows/norms.jsonl, line 2: it says what another line has said"),
    (in_line("completions", 2, prompt=None), "line 2: prompt: it must not be empty"),
    (in_line("completions", 2, prompt=True), "line 2: prompt: the archive has no prompt True"),
    (in_line("ranks", 4, completion=-3), "rows/ranks.jsonl, line 4: completion: the archive has no completion -3"),
    (in_line("ranks", 4, group="1"), "rows/ranks.jsonl, line 4: group: '1' is not a whole number"),
    (in_line("ranks", 4, group=2**40), "rows/ranks.jsonl, line 4: value .* is out of range"),
    (in_line("ranks", 4, group=12), "rows/ranks.jsonl, line 4: it breaks the rule rank_1_to_9"),
    (in_line("slots", 1, rater=99), "rows/slots.jsonl, line 1: rater: the archive has no account 99"),
    (in_line("runs", 1, id="x"), "rows/runs.jsonl, line 1: id: 'x' is not a UUID"),
    (in_line("runs", 1, attempt=1.5), "rows/runs.jsonl, line 1: attempt: 1.5 is not a whole number"),
    (in_line("runs", 1, generation="1"), "rows/runs.jsonl, line 1: generation: the archive has no generation '1'"),
    (in_line("snapshots", 1, sha256="0" * 64), "The snapshot v1 would not have its hash again"),
    (in_line("snapshots", 1, recipe={"form": 2, "kinds": 3}), "The snapshot v1 cannot be made again"),
    (
        in_line("audit_events", 1, object_type="import", object_id="x"),
        "audit_events.jsonl, line 1: object_id: 'x' is no",
    ),
    (in_line("audit_events", 1, object_type="run", object_id="1"), "line 1: object_id: '1' is not a UUID"),
    (in_line("users", 1, username="a b"), "rows/users.jsonl, line 1: Enter a valid username"),
    (in_line("users", 1, id="1"), "rows/users.jsonl, line 1: it is not an account"),
    (in_line("users", 2, username="alice"), "rows/users.jsonl, line 2: the account comes twice"),
    (text("scores", 1, b"{"), "rows/scores.jsonl, line 1: unexpected end of data"),
    (text("scores", 1, b"[1]"), "rows/scores.jsonl, line 1: it is not a JSON object"),
    (text("scores", 1, b'{"value": "\\ud800"}'), "rows/scores.jsonl, line 1"),
    (text("scores", 1, b'{"value": "\xff"}'), "rows/scores.jsonl, line 1"),
    (text("scores", 1, b"{}"), "rows/scores.jsonl, line 1: it lacks revision"),
    (without("revisions"), "rows/.*jsonl, line 1"),
    (without("project"), "The archive lacks rows/project.jsonl"),
    (without("users"), "The archive lacks rows/users.jsonl"),
    (twice("project"), "rows/project.jsonl, line 2: it says what another line has said"),
    (in_line("imports", 1, first_number=2**62), "An import of the archive has the number 4611686018427387904"),
    (in_manifest(form=2), r"made by a newer version of Hone \(form 2\)"),
    (in_manifest(form="1"), "manifest is none of Hone's"),
    (in_manifest(members=[]), "manifest cannot be read"),
    (in_manifest(weights=7), "manifest cannot be read"),
    (in_manifest(project="../x"), "The name ../x will not do"),
    (added("rows/songs.jsonl"), "newer version of Hone: this one does not know rows/songs.jsonl"),
    (added("../evil"), "has a member that none of Hone's has: '../evil'"),
    (added("/etc/evil"), "has a member that none of Hone's has"),
    (added("weights/0/../../evil"), "has a member that none of Hone's has"),
    (added("weights\\evil"), "has a member that none of Hone's has"),
    (added("weights/0/x"), "does not know weights/0/x"),
    (added("rows/zeros.jsonl", bytes(80 << 20)), "unpacks to more than 200 times its size"),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=[sentence[:60] for _change, sentence in WRONG])
def test_each_fault_is_told_with_member_and_line_and_nothing_is_left(
    good: Path, tmp_path: Path, change: Change, sentence: str
) -> None:
    bad = changed(good, tmp_path / "bad.zip", change)
    with pytest.raises(Refused, match=sentence) as refusal:
        restore_project(path=bad)
    assert str(refusal.value).count(".\n") == 0
    assert not any(model._default_manager.exists() for model in (Project, User, Prompt, Run, Origin))


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_cut_off_or_rotten_or_no_archive_is_refused(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes()
    (cut := tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (other := tmp_path / "other.zip").write_bytes(b"hello")
    with zipfile.ZipFile(good) as archive:
        place = archive.getinfo("rows/prompts.jsonl").header_offset + 200
    (rotten := tmp_path / "rotten.zip").write_bytes(content[:place] + b"\x00\x01" + content[place + 2 :])
    zipfile.ZipFile(empty := tmp_path / "empty.zip", "w").close()
    for path, sentence in (
        (cut, "is not an archive of Hone, or it is cut off"),
        (other, "is not an archive of Hone, or it is cut off"),
        (empty, "is not an archive of Hone: it has no manifest"),
        (rotten, "rows/prompts.jsonl is damaged"),
        (tmp_path / "missing.zip", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(Refused, match=sentence):
            restore_project(path=path)
    assert not Project.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_member_that_differs_from_the_manifest_is_refused_before_anything_is_read(good: Path, tmp_path: Path) -> None:
    same_length = lambda members, _m: members.update(  # noqa: E731
        {"rows/prompts.jsonl": members["rows/prompts.jsonl"].replace(b"Question", b"Quession", 1)}
    )
    path = changed(good, tmp_path / "bad.zip", same_length, honest=False)
    with pytest.raises(Refused, match=r"rows/prompts.jsonl is not what the archive's manifest says"):
        restore_project(path=path)


@pytest.mark.django_db(transaction=True)
def test_a_line_without_end_is_not_read_into_memory(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "LONGEST_LINE", 1 << 20)
    path = changed(good, tmp_path / "bad.zip", text("norms", 1, b'{"name": "' + b"ab" * (1 << 20)))
    with pytest.raises(Refused, match=r"rows/norms.jsonl, line 1: it is longer than 1 MiB"):
        restore_project(path=path)


@pytest.mark.django_db(transaction=True)
def test_weights_are_never_written_outside_the_data_folder(good: Path, tmp_path: Path, settings: Any) -> None:
    settings.HONE_DATA_DIR = tmp_path / "data"
    settings.HONE_DATA_DIR.mkdir()
    for number, path in enumerate((f"{tmp_path}/outside", "../outside", "secret_key/x", "runs/../../outside")):
        empty_database()
        bad = changed(good, tmp_path / f"{number}.zip", weights_to(path))
        moved = restore_project(path=bad).moved[path]
        assert moved.startswith("models/")
        assert (settings.HONE_DATA_DIR / moved / "model.safetensors").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.zip", "1.zip", "2.zip", "3.zip", "data"]
    assert [path.name for path in settings.HONE_DATA_DIR.iterdir()] == ["models"]


@pytest.mark.django_db(transaction=True)
def test_weights_of_a_refused_archive_are_taken_away_again(good: Path, tmp_path: Path, settings: Any) -> None:
    settings.HONE_DATA_DIR = tmp_path / "data"
    settings.HONE_DATA_DIR.mkdir()

    def change(members: Members, manifest: dict[str, Any]) -> None:
        weights_to("runs/x/output/model")(members, manifest)
        in_line("prompts", 2, split="exam")(members, manifest)

    with pytest.raises(Refused, match="prompt_split_known"):
        restore_project(path=changed(good, tmp_path / "bad.zip", change))
    assert list(settings.HONE_DATA_DIR.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_a_taken_slug_and_an_account_of_another_kind_are_refused(good: Path, tmp_path: Path) -> None:
    restore_project(path=good)
    with pytest.raises(CommandError, match="There is a project garden already"):
        call_command("restore_project", good)
    with pytest.raises(CommandError, match="The name not a slug will not do"):
        call_command("restore_project", good, slug="not a slug")
    User.objects.filter(username="robot").update(kind="human")
    before = User.objects.count(), Project.objects.count()
    with pytest.raises(Refused, match="account robot here already, which is another kind of rater"):
        restore_project(path=good, slug="copy")
    assert (User.objects.count(), Project.objects.count()) == before


@pytest.mark.django_db
def test_an_archive_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    project = rich_project().project
    with pytest.raises(Refused, match="cannot be written: No such file"):
        make_archive(project=project, path=tmp_path / "no" / "a.zip", actor=None)
    project.generations.filter(number=1).update(weights_path=str(tmp_path / "gone"))
    with pytest.raises(Refused, match="generation 1 cannot come along"):
        make_archive(project=project, path=tmp_path / "a.zip", actor=None, weights=True)
    assert list(tmp_path.iterdir()) == []
    assert settings.HONE_DATA_DIR.exists()
