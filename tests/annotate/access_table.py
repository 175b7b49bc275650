"""Who may do what: every address of the site and every kind of person, written down by hand.

The anonymous are sent to sign in (IN), strangers to a project find nothing (404), raters are kept
from what is the leads' (403); any other status means that the person reached the page. The
administration is one line: whatever address it has, nobody but a superuser gets further than its
door.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from django.apps import apps
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from annotate.models import Contest, Membership
from annotate.services import invites
from tests.annotate.brought import brought
from tests.annotate.factory import kept_archive, run, user, waiting_task
from tests.annotate.keyed import contested_key
from tests.annotate.lineage import Turn

PEOPLE = ("anonymous", "stranger", "rater", "lead", "admin")
IN = 302001
"""Sent to the sign-in page."""
REFUSED = {IN, 403, 404}

TABLE: dict[tuple[str, str], tuple[int, int, int, int, int]] = {
    # address, method               anonymous stranger rater lead admin
    ("home", "GET"): (IN, 200, 302, 200, 200),
    ("login", "GET"): (200, 302, 302, 302, 302),
    ("login", "POST"): (200, 302, 302, 302, 302),
    ("set_language", "POST"): (302, 302, 302, 302, 302),
    ("account", "GET"): (IN, 200, 200, 200, 200),
    ("account", "POST"): (IN, 200, 200, 200, 200),
    ("admin_sign_in", "GET"): (IN, 403, 403, 403, 302),
    ("admin_password", "GET"): (IN, 302, 302, 302, 302),
    ("start", "GET"): (IN, 200, 302, 302, 302),
    ("new_project", "GET"): (IN, 403, 403, 200, 200),
    ("new_project", "POST"): (IN, 403, 403, 422, 422),
    # The loop
    ("project", "GET"): (IN, 404, 302, 200, 200),
    ("loop", "GET"): (IN, 404, 403, 200, 200),
    ("launch", "POST"): (IN, 404, 403, 302, 302),
    ("evaluation_terms", "GET"): (IN, 404, 403, 200, 200),
    ("improve", "GET"): (IN, 404, 403, 200, 200),
    ("improve", "POST"): (IN, 404, 403, 422, 422),
    ("take_snapshot", "POST"): (IN, 404, 403, 302, 302),
    ("promote", "POST"): (IN, 404, 403, 302, 302),
    ("reject", "POST"): (IN, 404, 403, 302, 302),
    # Rating; a slot belongs to whom it was handed to, be others leads or not
    ("rate", "GET"): (IN, 404, 200, 200, 200),
    ("next_item", "GET"): (IN, 404, 200, 200, 200),
    ("item_ahead", "GET"): (IN, 404, 204, 204, 204),
    ("reading", "GET"): (IN, 404, 204, 204, 200),
    ("read_guideline", "POST"): (IN, 404, 200, 200, 200),
    ("last_answer", "GET"): (IN, 404, 200, 204, 204),
    ("submit", "POST"): (IN, 404, 400, 404, 404),
    ("skip", "POST"): (IN, 404, 400, 404, 404),
    ("renew", "POST"): (IN, 404, 200, 404, 404),
    ("draft", "POST"): (IN, 404, 400, 404, 404),
    ("change", "GET"): (IN, 404, 200, 404, 404),
    ("feedback", "GET"): (IN, 404, 200, 404, 404),
    # What came of one's own answers; a check belongs to whose judgement it is of
    ("mine", "GET"): (IN, 404, 200, 200, 200),
    ("reveal", "POST"): (IN, 404, 302, 302, 302),
    ("contest", "POST"): (IN, 404, 302, 404, 404),
    # Quality
    ("quality", "GET"): (IN, 404, 403, 200, 200),
    ("raters", "GET"): (IN, 404, 403, 200, 200),
    ("make_key", "POST"): (IN, 404, 403, 302, 302),
    ("explain_key", "POST"): (IN, 404, 403, 302, 302),
    ("switch_key", "POST"): (IN, 404, 403, 302, 302),
    ("move_key", "POST"): (IN, 404, 403, 302, 302),
    ("decide_contest", "POST"): (IN, 404, 403, 302, 302),
    ("allow_another", "POST"): (IN, 404, 403, 302, 302),
    ("let_through", "POST"): (IN, 404, 403, 302, 302),
    # What the loop made
    ("runs", "GET"): (IN, 404, 403, 200, 200),
    ("run", "GET"): (IN, 404, 403, 200, 200),
    ("run_live", "GET"): (IN, 404, 403, 200, 200),
    ("run_series", "GET"): (IN, 404, 403, 200, 200),
    ("run_cancel", "POST"): (IN, 404, 403, 302, 302),
    ("run_resume", "POST"): (IN, 404, 403, 302, 302),
    ("run_settle", "POST"): (IN, 404, 403, 302, 302),
    ("generations", "GET"): (IN, 404, 403, 200, 200),
    ("generation", "GET"): (IN, 404, 403, 200, 200),
    ("gate", "GET"): (IN, 404, 403, 200, 200),
    ("gate_live", "GET"): (IN, 404, 403, 200, 200),
    ("reward_model", "GET"): (IN, 404, 403, 200, 200),
    ("measure", "POST"): (IN, 404, 403, 302, 302),
    ("score_texts", "POST"): (IN, 404, 403, 302, 302),
    ("run_scores", "GET"): (IN, 404, 403, 404, 404),
    ("snapshot", "GET"): (IN, 404, 403, 200, 200),
    ("export", "GET"): (IN, 404, 403, 200, 200),
    ("snapshot_card", "GET"): (IN, 404, 403, 200, 200),
    ("snapshot_difference", "GET"): (IN, 404, 403, 200, 200),
    ("recipe", "GET"): (IN, 404, 403, 200, 200),
    ("recipe", "POST"): (IN, 404, 403, 422, 422),
    ("archive", "POST"): (IN, 404, 403, 302, 302),
    ("archive_file", "GET"): (IN, 404, 403, 200, 200),
    ("background_task", "GET"): (IN, 404, 403, 200, 200),
    ("background_task_live", "GET"): (IN, 404, 403, 200, 200),
    ("background_task_cancel", "POST"): (IN, 404, 403, 302, 302),
    ("prompts", "GET"): (IN, 404, 403, 200, 200),
    ("prompt", "GET"): (IN, 404, 403, 200, 200),
    ("add_prompts", "GET"): (IN, 404, 403, 200, 200),
    ("add_prompts", "POST"): (IN, 404, 403, 422, 422),
    ("data", "GET"): (IN, 404, 403, 200, 200),
    ("data", "POST"): (IN, 404, 403, 422, 422),
    ("import", "GET"): (IN, 404, 403, 200, 200),
    ("import_live", "GET"): (IN, 404, 403, 200, 200),
    ("import_change", "POST"): (IN, 404, 403, 302, 302),
    ("import_confirm", "POST"): (IN, 404, 403, 302, 302),
    ("import_take_back", "POST"): (IN, 404, 403, 302, 302),
    ("completion", "GET"): (IN, 404, 403, 200, 200),
    ("judgements", "GET"): (IN, 404, 403, 200, 200),
    ("judgement", "GET"): (IN, 404, 403, 200, 200),
    ("adjudicate", "POST"): (IN, 404, 403, 302, 302),
    # Setting up
    ("settings", "GET"): (IN, 404, 403, 200, 200),
    ("settings", "POST"): (IN, 404, 403, 422, 422),
    ("pause", "POST"): (IN, 404, 403, 302, 302),
    ("resume", "POST"): (IN, 404, 403, 302, 302),
    # People
    ("members", "GET"): (IN, 404, 403, 200, 200),
    ("change_role", "POST"): (IN, 404, 403, 302, 302),
    ("remove_member", "POST"): (IN, 404, 403, 302, 302),
    ("invite", "POST"): (IN, 404, 403, 302, 302),
    ("revoke_invite", "POST"): (IN, 404, 403, 302, 302),
    ("history", "GET"): (IN, 404, 403, 200, 200),
    # Who holds an invitation's secret may use it; members are told that they are members
    ("join", "GET"): (200, 200, 200, 200, 200),
    ("join", "POST"): (200, 302, 409, 409, 302),
    # Last, because nobody is signed in after it
    ("logout", "POST"): (IN, 302, 302, 302, 302),
}

NO_KEY = {
    *("home", "start", "new_project", "login", "logout", "set_language", "account", "admin_sign_in", "admin_password"),
}
"""Addresses that name nothing."""
SECRETS = ("Question number", "Answer 0 of generation", "The first one answers", "Prefer the answer that helps")
"""Texts of the project that no refusal may show."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    location: str
    body: str

    @property
    def refused(self) -> bool:
        """Whether the person was kept out, however that was said."""
        door = self.location == "/admin/" or self.location.startswith("/admin/login")
        return self.cell in REFUSED or (self.status == 302 and door)

    @property
    def cell(self) -> int:
        """The answer as the table writes it."""
        return IN if self.status == 302 and self.location.startswith("/sign-in?next=") else self.status


Ask = Callable[[str, str, str], Answer]
"""Called with a person, a method and an address."""


@dataclass
class Report:
    """What a walk through the whole table found."""

    cells: int = 0
    leaks: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    """Cells that are not as written, though nobody saw what they may not see."""


def names() -> Iterator[tuple[str, URLPattern]]:
    """Every address of the site by name (``admin:…`` in the administration)."""

    def walk(patterns: list[URLPattern | URLResolver], space: str) -> Iterator[tuple[str, URLPattern]]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                inner = f"{pattern.namespace}:" if pattern.namespace else ""
                yield from walk(pattern.url_patterns, space + inner)
            else:
                yield space + (pattern.name or f"unnamed {pattern.pattern}"), pattern

    return walk(get_resolver().url_patterns, "")


class Stage:
    """The records that addresses name, made anew where a visit uses them up."""

    def __init__(self, left: Turn) -> None:
        self.left = left
        self.slug = left.stage.project.slug

    def address(self, name: str) -> str:
        """An address that leads to a record of the project."""
        if name in NO_KEY:
            return reverse(name)
        if name == "join":
            return reverse(name, args=[self._invited()[1]])
        return reverse(name, args=[self.slug, *self.key(name)])

    def key(self, name: str) -> list[object]:
        """What an address of the project names beside the project."""
        left = self.left
        match name:
            case "launch":
                return ["generate"]
            case "submit" | "skip" | "renew" | "draft" | "change":
                return [left.judgement.slot_id]
            case "run" | "run_live" | "run_series" | "run_scores":
                return [left.run.pk]
            case "run_cancel" | "run_resume" | "run_settle":
                return [run(left.stage.project).pk]
            case "generation" | "gate" | "gate_live" | "promote" | "reject":
                return [left.generation.number]
            case "reward_model" | "measure" | "score_texts":
                return [left.reward_model.number]
            case "snapshot" | "snapshot_card" | "snapshot_difference":
                return [left.snapshot.pk]
            case "export":
                return [left.snapshot.pk, "trl-preference", "train.jsonl"]
            case "prompt":
                return [left.completion.prompt_id]
            case "completion":
                return [left.completion.pk]
            case "judgement" | "adjudicate" | "make_key":
                return [left.judgement.pk]
            case "feedback":
                return [self.contested.check_result.judgement.slot_id]
            case "contest":
                return [self.contested.check_result_id]
            case "explain_key" | "switch_key" | "move_key":
                return [self.contested.check_result.key_id]
            case "decide_contest":
                return [self.contested.pk]
            case "read_guideline":
                return [left.stage.project.guidelines.get().pk]
            case "change_role" | "remove_member" | "allow_another" | "let_through":
                return [self._member().pk]
            case "import" | "import_live" | "import_change" | "import_confirm" | "import_take_back":
                return [brought(self.left.stage).pk]
            case "background_task" | "background_task_live" | "background_task_cancel":
                return [waiting_task(left.snapshot).pk]
            case "archive_file":
                return [kept_archive(left.snapshot.project).pk]
            case "revoke_invite":
                return [self._invited()[0].pk]
        return []

    @cached_property
    def contested(self) -> Contest:
        """Bob's objection to a key that he was shown."""
        return contested_key(self.left.stage)

    def _member(self) -> Membership:
        dora = user(f"dora-{uuid.uuid4().hex[:8]}")
        return Membership.objects.create(user=dora, project=self.left.stage.project, role=Membership.Role.RATER)

    def _invited(self) -> tuple[invites.Invite, str]:
        stage = self.left.stage
        return invites.create(project=stage.project, actor=stage.alice, role="rater", days=1, max_uses=9)


def admin_addresses() -> Iterator[str]:
    """Every address of the administration, with a record in it where it names one."""
    for name, pattern in names():
        if not name.startswith("admin:") or name in ("admin:login", "admin:password_change"):
            continue  # the last two lie behind admin_sign_in and admin_password
        if name.startswith("admin:unnamed"):
            yield "/admin/nothing-here"
            continue
        keys: dict[str, object] = {}
        for part in pattern.pattern.regex.groupindex or pattern.pattern.converters:
            model = name.removeprefix("admin:annotate_").rsplit("_", 1)[0]
            keys[part] = {"app_label": "annotate", "content_type_id": 1}.get(part) or _first(model)
        yield reverse(name, kwargs=keys)


def _first(model: str) -> object:
    found = apps.get_app_config("annotate").models.get(model)
    first = found._default_manager.first() if found else None
    return first.pk if first else 1


def walk(ask: Ask, left: Turn) -> Report:
    """Try every cell: first all that must be refused, which may change nothing, then the others."""
    stage, report = Stage(left), Report()
    rows = [(name, method, dict(zip(PEOPLE, cells, strict=True))) for (name, method), cells in TABLE.items()]
    addresses = {name: stage.address(name) for name, _method, _cells in rows}
    before = fingerprint()
    for name, method, cells in rows:
        for person, expected in cells.items():
            if expected in REFUSED:
                _try(report, f"{method} {name} as {person}", ask(person, method, addresses[name]), expected)
    for address in admin_addresses():
        for person in PEOPLE[:-1]:
            answer = ask(person, "GET", address)
            report.cells += 1
            if not answer.refused or any(secret in answer.body for secret in SECRETS):
                report.leaks.append(f"GET {address} as {person}: {answer.status}")
    if fingerprint() != before:
        report.leaks.append("something was changed by somebody who was refused")
    for address in admin_addresses():
        answer = ask("admin", "GET", address)
        report.cells += 1
        if answer.status >= 500 or answer.location.startswith(("/sign-in", "/admin/login")):
            report.surprises.append(f"GET {address} as admin: {answer.status}")
    for name, method, cells in rows:
        for person, expected in cells.items():
            if expected not in REFUSED:
                _try(report, f"{method} {name} as {person}", ask(person, method, stage.address(name)), expected)
    return report


def _try(report: Report, what: str, answer: Answer, expected: int) -> None:
    report.cells += 1
    if expected in REFUSED and (not answer.refused or any(secret in answer.body for secret in SECRETS)):
        report.leaks.append(f"{what}: {answer.status}")
    elif answer.cell != expected:
        report.surprises.append(f"{what}: {answer.status} {answer.location}, written down is {expected}")


def fingerprint() -> str:
    """A hash of all that is stored but sessions and tries to sign in."""
    digest = hashlib.sha256()
    tables = [m._meta.db_table for m in apps.get_app_config("annotate").get_models(include_auto_created=True)]
    with connection.cursor() as cursor:
        for table in sorted(set(tables) - {"annotate_signintry", "annotate_user"}):
            cursor.execute(
                f"SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '')) FROM \"{table}\" t"
            )
            digest.update(f"{table} {cursor.fetchone()}\n".encode())
        cursor.execute("SELECT md5(string_agg(username || password, chr(10) ORDER BY id)) FROM annotate_user")
        digest.update(str(cursor.fetchone()).encode())
    return digest.hexdigest()
