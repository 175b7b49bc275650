"""The database as a file and back, by PostgreSQL's own programs.

The wheel of the embedded server brings them; a server newer than the wheel needs programs as new as itself on
PATH. An address's password goes through the environment, where other users cannot read it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from django.db import connection
from psycopg.conninfo import make_conninfo

from annotate.embedded import postgres_binary

PREAMBLE_LINES = 60
"""Lines of a script before its first statement that makes something."""
NEWER_THAN_SERVER = b"SET transaction_timeout = 0;\n"
"""What programs from PostgreSQL 17 on say first, and servers before it do not understand."""


class ToolFailed(RuntimeError):
    """A program of PostgreSQL failed or is missing; the message is its last word."""


def dump(target: Path, *, snapshot: str) -> None:
    """Write the database to a file in PostgreSQL's custom format.

    :param snapshot: name of an exported snapshot (``pg_export_snapshot()``): the state that is written.
    :raises ToolFailed: when pg_dump does.
    """
    command = [_program("pg_dump"), "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
    _run([*command, f"--file={target}", f"--dbname={_address()}"])


def load(source: Path, *, then: Sequence[str] = ()) -> None:
    """Make everything that a dump holds, in one transaction: all of it or nothing.

    :param then: statements to carry out in the same transaction.
    :raises ToolFailed: when pg_restore or psql does.
    """
    script_command = [_program("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(source)]
    command = [_program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-"]
    with (
        subprocess.Popen(script_command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as script,
        subprocess.Popen(
            [*command, f"--dbname={_address()}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        ) as server,
    ):
        assert script.stdout is not None
        assert script.stderr is not None
        assert server.stdin is not None
        assert server.stderr is not None
        with contextlib.suppress(BrokenPipeError):  # psql stopped at a fault and says which
            # Not psql's --single-transaction: it commits where its input ends, even if we were killed half-way.
            server.stdin.write(b"BEGIN;\n")
            for number, line in enumerate(script.stdout):
                if number > PREAMBLE_LINES or line != NEWER_THAN_SERVER:
                    server.stdin.write(line)
            if script.wait() == 0:
                server.stdin.writelines(f"{statement};\n".encode() for statement in (*then, "COMMIT"))
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()
        faults = server.stderr.read()
        if server.wait() != 0:
            script.kill()
            raise ToolFailed(_last_word("psql", faults))
        if script.wait() != 0:
            raise ToolFailed(_last_word("pg_restore", script.stderr.read()))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=_environment(), check=False)
    if done.returncode != 0:
        raise ToolFailed(_last_word(Path(command[0]).name, done.stderr))


def _last_word(program: str, said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    faults = [line for line in lines if "error:" in line.lower()] or lines or ["it ended without a word"]
    return f"{program} failed: {faults[0]}"


def _program(name: str) -> str:
    """The program, as new as the server or newer.

    :raises ToolFailed: when there is none.
    """
    connection.ensure_connection()
    wanted = connection.connection.info.server_version // 10000
    for path in filter(None, (postgres_binary(name), shutil.which(name))):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"\) (\d+)", said)
        if version and int(version[1]) >= wanted:
            return path
    raise ToolFailed(f"{name} of PostgreSQL {wanted} is needed: install postgresql-client-{wanted}.")


def _address() -> str:
    """The database's address without its password."""
    settings = connection.settings_dict
    options = {key: value for key, value in settings["OPTIONS"].items() if isinstance(value, str)}
    parts = {"dbname": settings["NAME"], "user": settings["USER"], "host": settings["HOST"], "port": settings["PORT"]}
    return make_conninfo(**{key: value for key, value in (options | parts).items() if value})


def _environment() -> dict[str, str]:
    password = connection.settings_dict["PASSWORD"]
    return {**os.environ, **({"PGPASSWORD": password} if password else {})}
