"""A disk that is full while a checkpoint, an export, an upload or an import of prompts is written.

The data folder's runs, an export and the database lie on small disks of their own (tmpfs), which are
filled to the last byte. Each time the error must be a sentence, what was there before must be as it
was, and with room again the work must go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from rewardmodel.publish import verify
from rewardmodel.rundir import checkpoints
from tests import site
from tests.drill.outcome import Outcome
from tests.drill.trainers import a_project, wait_until

MEGABYTE = 1 << 20
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
REWARD = {"epochs": 400, "dtype": "float32", "checkpoint_seconds": 0.0, "threads": 1, "patience": 1000}


def drill() -> list[Outcome]:
    """Fill the disk under a training, an export and an import."""
    if os.geteuid() != 0:
        return [Outcome("disk full", "not tried", "to be root, who may mount a small disk", met=False)]
    _own_mounts()
    with site.fresh_site(HONE_ENGINE="transformers", HONE_RUN_LOST_SECONDS="90") as folder:
        with _small_disk(folder / "runs", 400), _small_disk(folder / "exports", 1):
            project = a_project(folder, prompts=12)
            outcomes = [*_refused_at_launch(project), *_checkpoint(project), *_export(folder, project)]
        with _small_disk(folder / "uploads", 4):
            outcomes += _upload(folder, project)
        with _small_disk(folder / "tables", 24):
            return [*outcomes, *_import(folder, project)]


def _own_mounts() -> None:
    """Go where what is mounted is seen by this process and its children alone, and goes with them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mount namespace")


@contextlib.contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _filled(folder: Path, spare: int = 0) -> Iterator[None]:
    """Hold a disk full but for some bytes."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        file.truncate(max(0, os.fstat(file.fileno()).st_size - spare))
    yield
    ballast.unlink()


def _refused_at_launch(project: Any) -> list[Outcome]:
    """Room is looked for before anything is done."""
    from django.conf import settings

    from annotate.models import Run
    from annotate.services import Refused
    from annotate.services.runs import launch_generate

    said = "nothing"
    with _filled(Path(settings.RUNS_DIR), 100 * MEGABYTE):
        try:
            launch_generate(project=project, actor=None, ring=False)
        except Refused as refusal:
            said = str(refusal)
    met = "make room" in said and not Run.objects.exists()
    return [Outcome("disk nearly full before a start", said.split(":")[0], "refused with a sentence, no run made", met)]


def _checkpoint(project: Any) -> list[Outcome]:
    """Fill the disk while a reward model trains, make room, resume."""
    from django.conf import settings
    from django.db import connections

    from annotate.models import Run, User
    from annotate.services import control
    from annotate.services.execute import carry_out
    from annotate.services.files import run_folder
    from annotate.services.runs import launch_generate, launch_train_reward
    from annotate.services.simulate import judge_everything

    carry_out(launch_generate(project=project, actor=None, ring=False))
    judge_everything(project=project, seed=1)
    run = launch_train_reward(project=project, actor=None, kinds=(User.Kind.SIMULATED,), settings=REWARD, ring=False)

    def work() -> None:
        carry_out(Run.objects.get(pk=run.pk))
        connections.close_all()

    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: len(checkpoints(run_folder(run))) == 2)
    with _filled(Path(settings.RUNS_DIR)):
        worker.join()
        run.refresh_from_db()
        kept = [folder.name for folder in checkpoints(run_folder(run)) if verify(folder)]
    failed = (run.state, run.error.split(".")[0])
    control.resume(run=run, actor=None, ring=False)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    run.refresh_from_db()
    first = json.loads((run_folder(run) / "attempt-2" / "progress.jsonl").read_text().splitlines()[1])
    went_on = run.state == run.State.SUCCEEDED and first["done"] > 1
    where = f"{run.state}, from step {first['done']:g}"
    return [
        Outcome(
            "disk full during a checkpoint",
            f"{failed[0]}: {failed[1]}; {len(kept)} earlier checkpoints whole",
            "failed with a sentence, 2 whole",
            failed[0] == "failed" and "is full" in failed[1] and len(kept) == 2,
        ),
        Outcome("resumed with room again", where, "succeeded, not from step 1", went_on),
    ]


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "manage.py", *words], capture_output=True, text=True, check=False)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1].removeprefix("CommandError: ") if lines else "nothing"


def _export(folder: Path, project: Any) -> list[Outcome]:
    """Export over an earlier file."""
    out = folder / "exports"
    earlier = out / "trl-preference" / "train.jsonl"
    earlier.parent.mkdir()
    earlier.write_text("earlier\n")
    snapshot = project.snapshots.latest("pk")
    words = ("export", f"{project.slug}/{snapshot.name}", "--format", "trl-preference", "--out", str(out))
    with _filled(out):
        full = _command(*words)
        left = sorted(path.name for path in out.iterdir())
        intact = earlier.read_text() == "earlier\n" and len(left) == 2 and len(list(earlier.parent.iterdir())) == 1
    again = _command(*words)
    met = full.returncode == 1 and "Traceback" not in full.stderr and intact and again.returncode == 0
    return [Outcome("disk full during an export", _said(full), "a sentence, the earlier file as it was", met)]


def _upload(folder: Path, project: Any) -> list[Outcome]:
    """Upload a file where the web server's temporary folder lies on a small disk."""
    from annotate.models import Import

    site.set_passwords()
    row = json.dumps({"prompt": "Which?", "chosen": "x" * 1000, "rejected": "y" * 1000}).encode() + b"\n"
    os.environ["TMPDIR"] = str(folder / "uploads")
    try:
        with site.web_server(folder) as address:
            client = site.signed_in(address, "alice")
            full = _sent(client, project, row * 4000)
            intact = not Import.objects.exists() and not list((folder / "uploads").iterdir())
            again = _sent(client, project, row * 1500)
    finally:
        del os.environ["TMPDIR"]
    told = "The disk of this site is full" in full.text
    met = full.status_code == 507 and told and intact and again.status_code == 200 and Import.objects.count() == 1
    measured = f"{full.status_code} with {'a' if told else 'no'} sentence; then {again.status_code}"
    return [Outcome("disk full during an upload", measured, "507 with a sentence, nothing left; then 200", met)]


def _sent(client: httpx.Client, project: Any, content: bytes) -> httpx.Response:
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(f"/p/{project.slug}/data/", data=form, files={"file": ("pairs.jsonl", content)})


def _import(folder: Path, project: Any) -> list[Outcome]:
    """Import prompts into a database whose tables lie on a full disk."""
    from django.db import connection

    subprocess.run(["chown", "nobody", str(folder / "tables")], check=True)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLESPACE small LOCATION '{folder / 'tables'}'")
        cursor.execute("ALTER TABLE annotate_prompt SET TABLESPACE small")
    before = project.prompts.count()
    source = folder / "prompts.jsonl"
    with open(source, "w") as file:
        for _number in range(2000):
            file.write(json.dumps({"prompt": os.urandom(4000).hex()}) + "\n")
    with _filled(folder / "tables", MEGABYTE):
        full = _command("import_prompts", str(source), "--project", project.slug)
        intact = project.prompts.count() == before
    source.write_text(json.dumps({"prompt": "One more."}) + "\n")
    again = _command("import_prompts", str(source), "--project", project.slug)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE annotate_prompt SET TABLESPACE pg_default")
    met = full.returncode == 1 and "Traceback" not in full.stderr and intact
    met = met and again.returncode == 0 and project.prompts.count() == before + 1
    return [Outcome("disk full during an import of prompts", _said(full), "a sentence, the earlier prompts alone", met)]
