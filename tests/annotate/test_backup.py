"""Backup and restore: everything comes back equal, and nothing is ever half done."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from annotate import pgtools
from annotate.models import Generation, Project, Run
from annotate.services import Conflict, Refused
from annotate.services import restore as restoring
from annotate.services.backup import Backup, make_backup
from annotate.services.files import run_folder, stored
from annotate.services.projects import default_model
from annotate.services.restore import Restored
from rewardmodel.publish import MANIFEST, publish, write_json
from tests.annotate.factory import world
from tests.annotate.lineage import Turn, turn
from tests.policy.conftest import make_model

ROOT = Path(__file__).resolve().parents[2]
FIRST, OTHER = "to_be_backed_up", "restored"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that can be loaded."""
    return make_model(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module", autouse=True)
def site(weights: Path, servers: None, django_db_blocker: Any) -> Iterator[Turn]:
    """A turn of the loop in a database of its own, with real weights in the runs' folders of its two models."""

    def fill(target: Path) -> None:
        shutil.copytree(weights, target, dirs_exist_ok=True)

    with django_db_blocker.unblock(), fresh_database(FIRST), using(FIRST):
        call_command("migrate", verbosity=0)
        made = turn(world())
        for model, made_by in ((made.generation, made.run), (made.reward_model, made.reward_model.run)):
            folder = run_folder(made_by) / "output" / "model"
            folder.parent.mkdir(parents=True)
            model.manifest_sha256 = publish(folder, fill)
            model.weights_path = stored(folder)
            model.save()
            write_json(run_folder(made_by) / "result.json", {"model": "output/model"})
            (run_folder(made_by) / "checkpoints").mkdir()
            (run_folder(made_by) / "checkpoints" / "big").write_text("not needed any more")
        (settings.HONE_DATA_DIR / "secret_key").write_text("k")
        yield made
        shutil.rmtree(settings.RUNS_DIR)
        (settings.HONE_DATA_DIR / "secret_key").unlink()


def address(database: str) -> str:
    return f"postgresql://hone@/{database}?host={quote(connection.settings_dict['HOST'], safe='')}"


@contextmanager
def fresh_database(name: str) -> Iterator[None]:
    """An empty database beside the others."""
    with psycopg.connect(address("postgres"), autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        yield
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def using(name: str) -> Iterator[None]:
    """Have the site's code see a database."""

    def use(database: str) -> None:
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
        connection.settings_dict["NAME"] = database

    before = connection.settings_dict["NAME"]
    use(name)
    try:
        yield
    finally:
        use(before)


@pytest.fixture
def empty() -> Iterator[str]:
    """The address of a second database, with nothing in it."""
    with fresh_database(OTHER):
        yield address(OTHER)


def restore(backup: Path, data: Path) -> Restored:
    """Restore into the second database and another data folder."""
    with using(OTHER), override_settings(HONE_DATA_DIR=data):
        return restoring.restore(source=backup)


def tables(database: str) -> dict[str, tuple[int, str]]:
    """Rows and a hash over the content of each table."""
    with psycopg.connect(database) as server:
        names = server.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        query = "SELECT count(*), coalesce(md5(string_agg(t::text, '\n' ORDER BY t::text)), '') FROM {} t"
        return {name: server.execute(query.format(name)).fetchone() for (name,) in names}  # type: ignore[misc]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_site_restored_elsewhere_is_equal_row_by_row_and_its_weights_load(site: Turn, tmp_path: Path, empty: str):
    made = make_backup(folder=tmp_path / "backups")
    done = subprocess.run(
        [sys.executable, "manage.py", "restore", str(tmp_path / "backups")],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": empty,
            "HONE_DATA_DIR": str(tmp_path / "data"),
            "CELERY_BROKER_URL": "memory://",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"Restored {made.path}" in done.stdout
    before, after = tables(address(FIRST)), tables(empty)
    assert before == after
    assert before["annotate_judgement"][0] == 1
    assert before["annotate_completion"][0] > 10

    from transformers import AutoModelForCausalLM

    folder = tmp_path / "data" / site.generation.weights_path
    assert AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).num_parameters() > 0
    assert files(folder) == files(settings.HONE_DATA_DIR / site.generation.weights_path)
    assert (tmp_path / "data" / "runs" / str(site.run.pk) / "result.json").is_file()
    assert not (tmp_path / "data" / "runs" / str(site.run.pk) / "checkpoints").exists()
    assert stat.S_IMODE((tmp_path / "data" / "secret_key").stat().st_mode) == 0o600
    assert made.missing == []
    with psycopg.connect(empty) as server, pytest.raises(psycopg.errors.RestrictViolation):
        server.execute("DELETE FROM annotate_submission")


def test_nobody_else_can_read_a_backup(site: Turn, tmp_path: Path):
    made = make_backup(folder=tmp_path / "backups")
    for path in [made.path, *made.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_backup_takes_no_room_for_weights_that_the_first_has(site: Turn, tmp_path: Path):
    first = make_backup(folder=tmp_path)
    first.path.rename(first.path.with_name("backup-20260101T000000Z"))
    second = make_backup(folder=tmp_path)
    assert first.linked_bytes == 0
    assert (second.copied_bytes, second.linked_bytes) == (0, first.copied_bytes)
    shutil.rmtree(tmp_path / "backup-20260101T000000Z")
    weights = second.path / "files" / site.generation.weights_path
    assert files(weights) == files(settings.HONE_DATA_DIR / site.generation.weights_path)


def test_a_file_that_rotted_in_the_first_backup_is_copied_anew_into_the_second(site: Turn, tmp_path: Path):
    first = make_backup(folder=tmp_path)
    old = first.path.rename(first.path.with_name("backup-20260101T000000Z"))
    for rotten in old.glob("files/**/model.safetensors"):
        rotten.write_bytes(b"x" * rotten.stat().st_size)
    second = make_backup(folder=tmp_path)
    weights = second.path / "files" / site.generation.weights_path
    assert files(weights) == files(settings.HONE_DATA_DIR / site.generation.weights_path)


def test_a_model_from_elsewhere_comes_along_and_its_rows_follow_it(
    site: Turn, tmp_path: Path, empty: str, weights: Path
):
    folder = tmp_path / "hub" / "their-model"
    shutil.copytree(weights, folder)
    project, base = site.stage.project, site.stage.project.base_model
    Project.objects.update(base_model=str(folder))
    Generation.objects.filter(number=0).update(weights_path=str(folder))
    try:
        made = make_backup(folder=tmp_path / "backups")
    finally:
        Project.objects.update(base_model=base)
        Generation.objects.filter(number=0).update(weights_path=base)
    shutil.rmtree(folder)
    assert restore(made.path, tmp_path / "data").moved == {str(folder): "models/their-model"}
    assert files(tmp_path / "data" / "models" / "their-model") == files(weights)
    with psycopg.connect(empty) as server:
        paths = server.execute("SELECT weights_path FROM annotate_generation WHERE number = 0").fetchall()
        paths += server.execute("SELECT base_model FROM annotate_project WHERE id = %s", [project.pk]).fetchall()
    assert paths == [("models/their-model",)] * 2


def test_the_default_model_is_left_out(site: Turn, tmp_path: Path):
    default = default_model()
    is_ours = not default.exists()  # another test may have left one
    default.mkdir(exist_ok=True)
    Generation.objects.filter(number=0).update(weights_path=stored(default))
    try:
        made = make_backup(folder=tmp_path)
    finally:
        Generation.objects.filter(number=0).update(weights_path=site.stage.project.base_model)
        if is_ours:
            default.rmdir()
    assert not (made.path / "files" / "models" / default.name).exists()


def test_a_backup_refuses_weights_that_are_not_what_was_recorded(site: Turn, tmp_path: Path):
    victim = settings.HONE_DATA_DIR / site.generation.weights_path / "config.json"
    good = victim.read_text()
    victim.write_text("{}")
    try:
        with pytest.raises(Refused, match=r"Garden · generation 1 cannot be backed up: .*config\.json is missing or"):
            make_backup(folder=tmp_path)
        assert list(tmp_path.glob("*backup-*")) == []
        made = make_backup(folder=tmp_path, despite_damage=True)
    finally:
        victim.write_text(good)
    assert len(made.missing) == 1
    assert json.loads((made.path / "BACKUP.json").read_text())["missing"] == made.missing


def test_a_run_under_way_is_in_a_backup_as_its_row_alone(tmp_path: Path, site: Turn):
    going = Run.objects.create(project=site.stage.project, kind="generate", key="x", job={}, state="running")
    (run_folder(going) / "output").mkdir(parents=True)
    (run_folder(going) / "output" / "half.parquet").write_text("…")
    made = make_backup(folder=tmp_path)
    going.delete()
    assert not (made.path / "files" / "runs" / str(going.pk)).exists()


def test_two_backups_at_once_are_refused_and_leftovers_of_a_killed_one_removed(site: Turn, tmp_path: Path):
    (tmp_path / ".backup-20260101T000000Z.1.tmp").mkdir()
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="Another backup is being added"):
            make_backup(folder=tmp_path)
    make_backup(folder=tmp_path)
    assert not (tmp_path / ".backup-20260101T000000Z.1.tmp").exists()


def test_a_disk_too_full_for_a_backup_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("annotate.services.backup.ROOM_BESIDE", 1 << 60)
    with pytest.raises(Refused, match=r"GB free; this backup may take"):
        make_backup(folder=tmp_path)
    assert list(tmp_path.glob("*backup-*")) == []


class TestBadRestores:
    """Each is refused with a sentence and leaves database and data folder empty."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Backup:
        return make_backup(folder=tmp_path / "backups")

    def refused(self, backup: Path, empty: str, data: Path) -> str:
        with pytest.raises(Refused) as refusal:
            restore(backup, data)
        assert tables(empty) == {}
        assert not data.exists() or list(data.iterdir()) == []
        return str(refusal.value)

    def test_a_folder_that_is_no_backup(self, empty: str, tmp_path: Path):
        (tmp_path / "photos").mkdir()
        assert "There is no backup of Hone in" in self.refused(tmp_path / "photos", empty, tmp_path / "data")

    def test_a_file_that_changed(self, made: Backup, empty: str, tmp_path: Path):
        (victim, *_) = made.path.glob("files/**/model.safetensors")
        victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
        said = self.refused(made.path, empty, tmp_path / "data")
        assert "This backup is damaged" in said
        assert "model.safetensors is missing or differs from its manifest" in said

    def test_a_part_of_a_backup(self, made: Backup, empty: str, tmp_path: Path):
        (made.path / "database.dump").unlink()
        assert "database.dump is missing" in self.refused(made.path, empty, tmp_path / "data")

    def test_a_manifest_that_is_none(self, made: Backup, empty: str, tmp_path: Path):
        (made.path / MANIFEST).write_text("[1, 2]")
        assert "cannot be read" in self.refused(made.path, empty, tmp_path / "data")

    def test_a_backup_that_would_write_outside_the_data_folder(self, made: Backup, empty: str, tmp_path: Path):
        (made.path.parent / "evil").write_text("x")
        listed = json.loads((made.path / MANIFEST).read_text())
        listed["files/../../evil"] = listed["BACKUP.json"]
        (made.path / MANIFEST).write_text(json.dumps(listed))
        assert "was not made by Hone: it lists files/../../evil" in self.refused(made.path, empty, tmp_path / "data")

    def test_a_backup_of_a_newer_version(self, made: Backup, empty: str, tmp_path: Path):
        def fill(target: Path) -> None:
            shutil.copytree(made.path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
            about = json.loads((target / "BACKUP.json").read_text())
            about["migrations"].append(["annotate", "9999_later"])
            (target / "BACKUP.json").write_text(json.dumps(about))

        publish(tmp_path / "newer", fill)
        said = self.refused(tmp_path / "newer", empty, tmp_path / "data")
        assert "was made by a newer version of Hone (annotate.9999_later)" in said

    def test_a_dump_that_breaks_off_leaves_no_file_and_no_table(self, made: Backup, empty: str, tmp_path: Path):
        def fill(target: Path) -> None:
            shutil.copytree(made.path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
            dump = target / "database.dump"
            dump.write_bytes(dump.read_bytes()[: dump.stat().st_size * 8 // 10])

        publish(tmp_path / "cut", fill)
        said = self.refused(tmp_path / "cut", empty, tmp_path / "data")
        assert "The database could not be restored and is empty still: pg_restore failed" in said


def test_a_database_with_tables_is_not_restored_over(tmp_path: Path):
    made = make_backup(folder=tmp_path / "backups")
    before = tables(address(FIRST))
    with (
        override_settings(HONE_DATA_DIR=tmp_path / "data"),
        pytest.raises(Refused, match="tables already: a backup is restored into an empty one"),
    ):
        restoring.restore(source=made.path)
    assert tables(address(FIRST)) == before
    assert not (tmp_path / "data").exists()


def test_other_content_in_the_data_folder_is_not_written_over(site: Turn, tmp_path: Path, empty: str):
    made = make_backup(folder=tmp_path / "backups")
    mine = tmp_path / "data" / "runs" / str(site.run.pk) / "result.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(Refused, match="is there already, with other content"):
        restore(made.path, tmp_path / "data")
    assert tables(empty) == {}
    assert files(tmp_path / "data") == {f"runs/{site.run.pk}/result.json": b"mine"}


def test_a_restore_goes_on_from_the_files_of_one_that_was_killed(tmp_path: Path, empty: str):
    made = make_backup(folder=tmp_path / "backups")
    shutil.copytree(made.path / "files" / "runs", tmp_path / "data" / "runs")
    (tmp_path / "data" / ".restore.tmp").mkdir()
    restore(made.path, tmp_path / "data")
    assert tables(empty) == tables(address(FIRST))
    assert not (tmp_path / "data" / ".restore.tmp").exists()


def test_a_program_of_postgresql_that_fails_is_one_sentence(tmp_path: Path):
    with pytest.raises(pgtools.ToolFailed, match=r"pg_dump failed: .*error"):
        pgtools.dump(tmp_path / "x.dump", snapshot="00000000-00000000-0")
