"""Files of data, and imports of them as a lead makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import Import
from annotate.services import imports
from tests.annotate.factory import World

PAIR = {"prompt": "What colour is the sky?", "chosen": "It is blue.", "rejected": "It is green."}


def jsonl(*rows: Any) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def uploaded(*rows: Any, name: str = "pairs.jsonl") -> SimpleUploadedFile:
    """Rows as a browser sends them; bytes are sent as they are."""
    content = rows[0] if len(rows) == 1 and isinstance(rows[0], bytes) else jsonl(*rows)
    return SimpleUploadedFile(name, content)


def brought(stage: World, *rows: Any, **more: str) -> Import:
    """An import that was uploaded and checked."""
    sent = {"source": "", "licence": "", **more}
    return imports.receive(project=stage.project, upload=uploaded(*(rows or (PAIR,))), actor=stage.alice, **sent)


def file_of(folder: Path, *rows: Any, name: str = "pairs.jsonl") -> Path:
    """A file of JSON lines."""
    path = folder / name
    path.write_bytes(jsonl(*rows))
    return path
