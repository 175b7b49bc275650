"""The embedded PostgreSQL and Valkey: started by the first, stopped by the last, recovered after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from annotate import embedded

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"fsync": "off"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose database cluster exists, with no server running."""
    folder = tmp_path_factory.mktemp("data")
    with embedded.servers_running(folder, valkey=False, postgres_options=QUICK):
        pass
    return folder


@pytest.fixture
def data(cluster: Path) -> Iterator[Path]:
    """The same, checked to be left with no server running."""
    yield cluster
    assert not answers(cluster)
    with embedded.nobody_using(cluster):
        pass


def answers(data: Path) -> bool:
    """Whether the database of a data folder takes connections."""
    try:
        with psycopg.connect(embedded.database_url(data)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_both_servers_answer_while_they_are_held_and_not_after(data: Path):
    with embedded.servers_running(data, postgres_options=QUICK):
        assert answers(data)
        socket = embedded.broker_url(data).removeprefix("redis+socket://")
        assert redis.Redis(unix_socket_path=socket).ping()
    assert not answers(data)
    with pytest.raises(redis.ConnectionError):
        redis.Redis(unix_socket_path=socket).ping()


def test_servers_run_until_the_last_of_several_users_leaves(data: Path):
    first = embedded.servers_running(data, valkey=False, postgres_options=QUICK)
    second = embedded.servers_running(data, valkey=False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert answers(data)
    second.__exit__(None, None, None)
    assert not answers(data)


def test_two_that_start_at_once_share_one_server(data: Path):
    inside = threading.Barrier(2, timeout=60)
    seen = []

    def use() -> None:
        with embedded.servers_running(data, valkey=False, postgres_options=QUICK):
            inside.wait()
            seen.append((data / "pg" / "data" / "postmaster.pid").read_text().split()[0])
            inside.wait()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_a_killed_user_leaves_servers_that_the_next_one_takes_over_and_stops(data: Path):
    program = f"""
import time
from pathlib import Path
from annotate.embedded import servers_running
with servers_running(Path({str(data)!r}), valkey=False):
    print("up", flush=True)
    time.sleep(600)
"""
    user = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None
    assert user.stdout.readline() == "up\n"
    user.kill()
    user.wait()
    user.stdout.close()
    assert answers(data)
    with embedded.servers_running(data, valkey=False):
        assert answers(data)


def test_a_crashed_server_starts_again_past_its_stale_files(data: Path):
    with embedded.servers_running(data, valkey=False):
        server = embedded._postgres_process(data / "pg")
        assert server is not None
        server.kill()
        server.wait(30)
        stale = data / "pg" / "data" / "postmaster.pid"
        assert stale.exists()
    # The number in the stale file may by now be that of any living process, such as this one.
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with embedded.servers_running(data, valkey=False):
        assert answers(data)


def test_a_half_made_cluster_is_made_anew(tmp_path: Path):
    half = tmp_path / "pg" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with embedded.servers_running(tmp_path, valkey=False, postgres_options=QUICK):
        assert answers(tmp_path)


def test_a_folder_too_deep_for_a_socket_still_works(tmp_path: Path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with embedded.servers_running(deep, postgres_options=QUICK):
        assert answers(deep)
        socket = Path(embedded.broker_url(deep).removeprefix("redis+socket://"))
        assert redis.Redis(unix_socket_path=str(socket)).ping()
    assert not socket.parent.exists()


def test_a_server_left_running_is_found_by_another_name_of_its_folder(data: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(data)
    with embedded.servers_running(data, valkey=False), embedded.servers_running(link, valkey=False):
        assert answers(link)


def test_a_folder_in_use_is_not_given_to_somebody_who_wants_it_alone(data: Path):
    with embedded.servers_running(data, valkey=False), pytest.raises(embedded.EmbeddedError, match="is in use"):  # noqa: SIM117
        with embedded.nobody_using(data):
            pytest.fail("two at once")


def test_a_server_that_cannot_start_is_explained_by_its_log(data: Path):
    with (
        pytest.raises(embedded.EmbeddedError, match="unrecognized configuration parameter"),
        embedded.servers_running(data, valkey=False, postgres_options={"no_such_setting": "1"}),
    ):
        pytest.fail("it started")
