"""Pools of items for benchmarks, written by the database itself: a million of them would take the ORM an hour.

Every foreign key, unique index and check holds as in a pool that was rated; triggers and foreign-key
checks are put off only while the rows are written. Texts are short: what grows with a pool is the number
of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ANSWERS = 4

PROMPTS = """
INSERT INTO annotate_prompt (id, project_id, messages, tags, split, dedup_hash, batch, created_at)
SELECT %(prompt)s + n, %(project)s,
       jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'Question number ' || n || '?')),
       '{}', (ARRAY['train', 'dev', 'test'])[1 + n %% 3], %(project)s || '-' || n, '', now()
FROM generate_series(1, %(items)s) n
"""
COMPLETIONS = """
INSERT INTO annotate_completion (id, prompt_id, generation_id, sample, run_id, text, token_count, finish_reason,
                                 sampling, engine, engine_version, batch, created_at)
SELECT %(completion)s + (n - 1) * %(answers)s + k + 1, %(prompt)s + n, %(generation)s, k, %(run)s,
       'Answer ' || k || ' to question number ' || n || ', in a sentence of some ten words.', 12, 'stop',
       '{}', 'transformers', '5', '', now()
FROM generate_series(1, %(items)s) n, generate_series(0, %(answers)s - 1) k
"""
ITEMS = """
INSERT INTO annotate_item (id, project_id, prompt_id, purpose, created_at)
SELECT %(item)s + n, %(project)s, %(prompt)s + n, 'collect', now() FROM generate_series(1, %(items)s) n
"""
ENTRIES = """
INSERT INTO annotate_itemcompletion (item_id, completion_id, position)
SELECT %(item)s + n, %(completion)s + (n - 1) * %(answers)s + k + 1, k
FROM generate_series(1, %(items)s) n, generate_series(0, %(answers)s - 1) k
"""
SLOTS = """
INSERT INTO annotate_slot (id, project_id, item_id, purpose, number, state, rater_id, ahead, priority, lottery,
                           order_seed, created_at)
SELECT %(slot)s + number * %(items)s + n, %(project)s, %(item)s + n, 'collect', number,
       CASE WHEN number * %(items)s + n <= %(judged)s THEN 'done' ELSE 'free' END,
       CASE WHEN number * %(items)s + n <= %(judged)s
            THEN (%(raters)s::bigint[])[1 + (n + number) %% cardinality(%(raters)s::bigint[])] END,
       false, (number + random()) * 2147483648, random() * 2147483648, random() * 2147483648, now()
FROM generate_series(1, %(items)s) n, generate_series(0, %(overlap)s - 1) number
"""
LEASES = """
INSERT INTO annotate_lease (slot_id, rater_id, claimed_at)
SELECT id, rater_id, now() FROM annotate_slot WHERE project_id = %(project)s AND state = 'done'
"""
SUBMISSIONS = """
INSERT INTO annotate_submission (uuid, slot_id, rater_id, payload, payload_sha256, outcome, created_at)
SELECT md5('submission' || id)::uuid, id, rater_id, '{}', md5(id::text), 'accepted', now()
FROM annotate_slot WHERE project_id = %(project)s AND state = 'done'
"""
JUDGEMENTS = """
INSERT INTO annotate_judgement (slot_id, item_id, rater_id, version, created_at, updated_at)
SELECT id, item_id, rater_id, 1, now(), now() FROM annotate_slot WHERE project_id = %(project)s AND state = 'done'
"""
REVISIONS = """
INSERT INTO annotate_judgementrevision (judgement_id, number, submission_id, both_bad, rationale, order_shown,
                                        active_ms, guideline_id, created_at)
SELECT j.id, 1, md5('submission' || j.slot_id)::uuid, false, '', '{}', 20000, %(guideline)s, now()
FROM annotate_judgement j JOIN annotate_slot s ON s.id = j.slot_id WHERE s.project_id = %(project)s
"""
RANKS = """
INSERT INTO annotate_rank (revision_id, completion_id, "group")
SELECT r.id, e.completion_id, e.position + 1
FROM annotate_judgementrevision r
JOIN annotate_judgement j ON j.id = r.judgement_id
JOIN annotate_slot s ON s.id = j.slot_id
JOIN annotate_itemcompletion e ON e.item_id = j.item_id
WHERE s.project_id = %(project)s
"""
STATEMENTS = (
    *(PROMPTS, COMPLETIONS, ITEMS, ENTRIES, SLOTS, LEASES),
    *(SUBMISSIONS, JUDGEMENTS, REVISIONS, RANKS),
)
NUMBERED = ("prompt", "completion", "item", "slot")


def fill(project: Any, *, items: int, raters: Sequence[Any] = (), answered_each: int = 0) -> None:
    """Give a project items, some of which its raters have judged, in the order in which they are offered.

    :param project: one without prompts.
    :param answered_each: judgements of each rater, ranks included.
    """
    from django.db import connection, transaction

    from tests.annotate.factory import run

    generation = project.generations.get(number=0)
    values = {
        "project": project.pk,
        "generation": generation.pk,
        "guideline": project.guidelines.get().pk,
        "run": run(project, "generate", generation=generation).pk,
        "items": items,
        "answers": ANSWERS,
        "overlap": project.overlap,
        "raters": [rater.pk for rater in raters],
        "judged": answered_each * len(raters),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for name in NUMBERED:
            cursor.execute(f"SELECT coalesce(max(id), 0) FROM annotate_{name}")
            values[name] = cursor.fetchone()[0]
        for statement in STATEMENTS:
            cursor.execute(statement, values)
        for name in NUMBERED:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('annotate_{name}', 'id'), (SELECT max(id) FROM annotate_{name}))"
            )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
