"""Taking back what an import brought, as far as nothing else has come to need it."""

from __future__ import annotations

from typing import LiteralString

from django.db import connection

from annotate.models import Import

STATEMENTS: tuple[LiteralString, ...] = (
    "DELETE FROM annotate_comparison WHERE project_id = %(project)s AND batch = %(batch)s",
    """
    DELETE FROM annotate_rankedanswer a USING annotate_rankedlist l
    WHERE l.id = a.ranked_list_id AND l.project_id = %(project)s AND l.batch = %(batch)s
    """,
    "DELETE FROM annotate_rankedlist WHERE project_id = %(project)s AND batch = %(batch)s",
    "DELETE FROM annotate_demonstration WHERE project_id = %(project)s AND batch = %(batch)s",
    "DELETE FROM annotate_signal WHERE project_id = %(project)s AND version = %(batch)s AND source = 'label'",
    """
    DELETE FROM annotate_completion c USING annotate_prompt p
    WHERE c.batch = %(batch)s AND p.id = c.prompt_id AND p.project_id = %(project)s
    AND NOT EXISTS (SELECT FROM annotate_comparison WHERE chosen_id = c.id OR rejected_id = c.id)
    AND NOT EXISTS (SELECT FROM annotate_rankedanswer WHERE completion_id = c.id)
    AND NOT EXISTS (SELECT FROM annotate_demonstration WHERE completion_id = c.id)
    AND NOT EXISTS (SELECT FROM annotate_signal WHERE completion_id = c.id)
    AND NOT EXISTS (SELECT FROM annotate_itemcompletion WHERE completion_id = c.id)
    AND NOT EXISTS (SELECT FROM annotate_completion e WHERE e.edit_of_id = c.id)
    """,
    """
    DELETE FROM annotate_prompt p WHERE p.project_id = %(project)s AND p.batch = %(batch)s
    AND NOT EXISTS (SELECT FROM annotate_completion WHERE prompt_id = p.id)
    AND NOT EXISTS (SELECT FROM annotate_comparison WHERE prompt_id = p.id)
    AND NOT EXISTS (SELECT FROM annotate_rankedlist WHERE prompt_id = p.id)
    AND NOT EXISTS (SELECT FROM annotate_item WHERE prompt_id = p.id)
    """,
)


def remove(of: Import) -> None:
    """Delete an import's rows, in the caller's transaction.

    Answers and prompts that another import, an item, an edit or a signal refers to stay.
    """
    with connection.cursor() as cursor:
        for statement in STATEMENTS:
            cursor.execute(statement, {"project": of.project_id, "batch": of.batch})
