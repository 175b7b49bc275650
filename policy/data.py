"""A policy job's files: prompts in, completions out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from policy.contract import COMPLETION_COLUMNS, PROMPT_COLUMNS, PROMPTS_FILE
from rewardmodel.chat import Message
from rewardmodel.contract import JobError
from rewardmodel.publish import file_sha256
from rewardmodel.tables import read_rows, write_rows


@dataclass(frozen=True)
class Prompt:
    """A chat to answer."""

    prompt_id: str
    split: str
    messages: list[Message]


def read_prompts(run_path: Path) -> list[Prompt]:
    """Read a run's prompts in their order.

    :raises JobError: when the file is missing, lacks a column, is empty or names a prompt twice.
    """
    path = run_path / PROMPTS_FILE
    rows = read_rows(path, PROMPT_COLUMNS, without="there is nothing to answer")
    prompts = [Prompt(row["prompt_id"], row["split"], row["messages"]) for row in rows]
    if not prompts:
        raise JobError(f"{path} holds no prompts.")
    if len({prompt.prompt_id for prompt in prompts}) < len(prompts):
        raise JobError(f"{path} names a prompt twice.")
    return prompts


class Shards:
    """The completions of a run, published file by file; what an earlier attempt published is kept."""

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path
        self._folder = run_path / "output"
        self._folder.mkdir(exist_ok=True)
        self.names = [f"output/{path.name}" for path in sorted(self._folder.glob("completions-*.parquet"))]

    def rows(self) -> list[dict[str, Any]]:
        """All completions published so far, in order."""
        return [row for name in self.names for row in pq.read_table(self._run_path / name).to_pylist()]

    def sha256(self, name: str) -> str:
        """Hex SHA-256 of a published file."""
        return file_sha256(self._run_path / name)

    def publish(self, rows: Sequence[dict[str, Any]]) -> str:
        """Write completions as the next file, which appears whole or not at all.

        :returns: the file's path within the run directory.
        """
        name = f"completions-{len(self.names):05d}.parquet"
        write_rows(self._folder / name, rows, COMPLETION_COLUMNS)
        self.names.append(f"output/{name}")
        return self.names[-1]
