"""Setting a clone up: what is pinned, and what people are told when it cannot go on."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tools import debian, setup

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of the clone."""
    venv = tmp_path / ".venv"
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "VENV", venv)
    monkeypatch.setattr(setup, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(setup, "PYTHON_STAMP", venv / "installed.sha256")
    monkeypatch.setattr(setup, "LOG", tmp_path / "setup.log")
    return tmp_path


def pinned(file: str) -> dict[str, str]:
    """Names and versions of a requirements file."""
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    found = (re.fullmatch(r"([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)(?:;.*)?", line) for line in lines if line)
    return {match[1].lower(): match[2] for match in found if match}


def test_every_direct_requirement_is_explained_and_locked_at_the_same_version():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.search(r"  # \w", line)] == []
    direct, locked = pinned("requirements.txt"), pinned("requirements.lock")
    assert len(direct) == len(lines)
    assert {name: version for name, version in direct.items() if locked.get(name) != version} == {}


def test_the_lock_leaves_out_what_breaks_transformers_and_what_differs_by_platform():
    locked = pinned("requirements.lock")
    assert {"torch", "torchvision", "torchaudio", "torchcodec"} & set(locked) == set()
    lines = (ROOT / "requirements.lock").read_text().splitlines()[1:]
    assert [line for line in lines if re.search(r"[@+/]", line)] == []
    assert len(lines) == len(locked)


def test_no_pinned_package_is_tied_to_a_registry():
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text()
    for name in ("requirements.lock", "requirements.txt", "requirements-gpu.txt", ".npmrc"):
        assert not re.search("://|index-url|registry=", (ROOT / name).read_text())


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "The disk became full while testing"),
        ("NewConnectionError: Temporary failure in name resolution", "The network failed while testing"),
        ("npm error code ENOTFOUND", "The network failed while testing"),
        ("something else", "Testing failed; the end of .*something else"),
    ],
)
def test_a_failing_step_is_explained_by_what_it_printed(clone: Path, output: str, sentence: str):
    with pytest.raises(setup.SetupError, match=f"(?s){sentence}"):
        setup.run(["sh", "-c", f"echo '{output}'; exit 1"], "testing")


def test_what_an_earlier_step_printed_explains_nothing(clone: Path):
    setup.run(["sh", "-c", "echo No space left on device"], "warming up")
    with pytest.raises(setup.SetupError, match="Testing failed"):
        setup.run(["sh", "-c", "exit 1"], "testing")


def test_too_little_disk_is_found_before_anything_is_downloaded(clone: Path):
    with pytest.raises(setup.SetupError, match="free; set-up needs 1048576 GB"):
        setup.check_disk(1 << 50)


def test_half_an_environment_of_a_broken_run_is_made_anew(clone: Path):
    half = clone / ".venv" / "lib" / "half-written"
    half.parent.mkdir(parents=True)
    half.write_text("")
    setup.make_venv("cpu")
    assert not half.exists()
    assert setup.works(clone / ".venv" / "bin" / "python")


def test_a_whole_environment_is_kept_when_only_its_packages_are_old(clone: Path):
    setup.make_venv("cpu")
    (clone / ".venv" / "installed.sha256").write_text("cpu of-an-older-lock")
    kept = clone / ".venv" / "lib" / "kept"
    kept.write_text("")
    setup.make_venv("cpu")
    assert kept.exists()
    assert not (clone / ".venv" / "installed.sha256").exists(), "a run that breaks off now must be seen as broken"


def test_an_environment_for_other_hardware_is_made_anew(clone: Path):
    old = clone / ".venv" / "lib" / "of-the-other-build"
    old.parent.mkdir(parents=True)
    old.write_text("")
    (clone / ".venv" / "installed.sha256").write_text("gpu of-the-same-lock")
    setup.make_venv("cpu")
    assert not old.exists()


def test_somebody_who_is_not_root_is_told_which_package_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ran something"))
    with pytest.raises(debian.MissingPackage, match="run `apt-get install libnuma1` as root"):
        debian.install("libnuma1", "vLLM's CPU build loads")


def test_an_unknown_variant_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HONE_VARIANT", "tpu")
    with pytest.raises(setup.SetupError, match="must be cpu or gpu"):
        setup.main()
