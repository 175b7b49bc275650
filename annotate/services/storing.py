"""Writing what a rater said, in one statement.

An answer has some twenty rows in up to nine tables. Written table by table, that was a third of the time that
an answer took; nothing in between is of interest to anybody.
"""

from __future__ import annotations

import uuid as uuid_module
from typing import Any

from django.db import connection
from psycopg.types.json import Jsonb

from annotate.models import Judgement, Slot
from annotate.services.payload import Payload

FIRST = """
WITH judgement AS (
    INSERT INTO annotate_judgement (slot_id, item_id, rater_id, version, created_at, updated_at)
    VALUES (%(slot)s, %(item)s, %(rater)s, %(number)s, statement_timestamp(), statement_timestamp())
    RETURNING id
), finished AS (
    UPDATE annotate_slot SET state = 'done', ahead = false, lease_expires_at = NULL WHERE id = %(slot)s
), """
AGAIN = """
WITH judgement AS (
    UPDATE annotate_judgement SET version = %(number)s, updated_at = statement_timestamp() WHERE slot_id = %(slot)s
    RETURNING id
), """
STORE = """sent AS (
    INSERT INTO annotate_submission (uuid, slot_id, rater_id, payload, payload_sha256, outcome, created_at)
    VALUES (%(uuid)s, %(slot)s, %(rater)s, %(raw)s, %(sha256)s, 'accepted', statement_timestamp())
), known AS (
    -- The newest instructions that the rater has read; the newest of all where they have read none.
    SELECT version.id FROM annotate_guidelineversion version
    LEFT JOIN annotate_guidelinereading reading ON reading.guideline_id = version.id AND reading.user_id = %(rater)s
    WHERE version.project_id = %(project)s
    ORDER BY reading.id IS NULL, version.number DESC LIMIT 1
), revision AS (
    INSERT INTO annotate_judgementrevision (judgement_id, number, submission_id, both_bad, strength, rationale,
                                            order_shown, active_ms, guideline_id, created_at)
    SELECT judgement.id, %(number)s, %(uuid)s, %(both_bad)s, %(strength)s, %(rationale)s,
           %(order)s, %(active_ms)s, (SELECT id FROM known), statement_timestamp()
    FROM judgement
    RETURNING id
), scored AS (
    INSERT INTO annotate_score (revision_id, completion_id, criterion_id, value)
    SELECT revision.id, completion, criterion, value
    FROM revision, jsonb_to_recordset(%(scores)s) AS _(completion bigint, criterion bigint, value smallint)
), ranked AS (
    INSERT INTO annotate_rank (revision_id, completion_id, "group")
    SELECT revision.id, completion, place
    FROM revision, jsonb_to_recordset(%(ranks)s) AS _(completion bigint, place smallint)
), flagged AS (
    INSERT INTO annotate_flag (revision_id, completion_id, note)
    SELECT revision.id, completion, note
    FROM revision, jsonb_to_recordset(%(flags)s) AS _(completion bigint, note text)
), weighed AS (
    INSERT INTO annotate_normverdict (revision_id, completion_id, norm_version_id, verdict, quote)
    SELECT revision.id, completion, norm, verdict, quote
    FROM revision, jsonb_to_recordset(%(norms)s) AS _(completion bigint, norm bigint, verdict text, quote text)
), worded AS (
    INSERT INTO annotate_completion (prompt_id, edit_of_id, text, finish_reason, sampling, engine, engine_version,
                                     batch, created_at)
    SELECT item.prompt_id, completion, wording, '', '{}', '', '', '', statement_timestamp()
    FROM annotate_item item, jsonb_to_recordset(%(edits)s) AS _(completion bigint, wording text)
    WHERE item.id = %(item)s
    RETURNING id, edit_of_id
), edited AS (
    INSERT INTO annotate_edit (revision_id, completion_id, edited_id)
    SELECT revision.id, worded.edit_of_id, worded.id FROM revision, worded
), replaced AS (
    DELETE FROM annotate_draft WHERE slot_id = %(slot)s AND rater_id = %(rater)s
)
SELECT id FROM judgement
"""


def store(
    *, judgement: Judgement, slot: Slot, uuid: uuid_module.UUID, raw: dict[str, Any], sha256: str, payload: Payload
) -> None:
    """Write an accepted submission and what it makes of its slot and judgement, and drop the draft that it replaces.

    To be called in the transaction that holds the slot's row.

    :param judgement: with the number of its new version; one that has no row yet is given its key.
    :param raw: the payload as it came, ``payload`` what was made of it, ``sha256`` its digest.
    :raises IntegrityError: when the submission's uuid is known.
    """
    scores = [
        {"completion": completion, "criterion": criterion, "value": value}
        for completion, values in payload.scores.items()
        for criterion, value in values.items()
    ]
    norms = [
        {"completion": completion, "norm": norm, "verdict": found.verdict, "quote": found.quote}
        for completion, verdicts in payload.norms.items()
        for norm, found in verdicts.items()
    ]
    values: dict[str, Any] = {
        "uuid": uuid,
        "slot": slot.pk,
        "rater": judgement.rater_id,
        "raw": Jsonb(raw),
        "sha256": sha256,
        "project": slot.project_id,
        "number": judgement.version,
        "both_bad": payload.both_bad,
        "strength": payload.strength,
        "rationale": payload.rationale,
        "order": list(slot.shown),
        "active_ms": payload.active_ms,
        "scores": Jsonb(scores),
        "ranks": _rows(payload.ranks, "place"),
        "flags": _rows(payload.flags, "note"),
        "norms": Jsonb(norms),
        "item": slot.item_id,
        "edits": _rows(payload.edits, "wording"),
    }
    with connection.cursor() as cursor:
        cursor.execute((FIRST if judgement.pk is None else AGAIN) + STORE, values)
        [judgement.pk] = cursor.fetchone()


def _rows(by_completion: dict[int, Any], name: str) -> Jsonb:
    return Jsonb([{"completion": completion, name: value} for completion, value in by_completion.items()])
