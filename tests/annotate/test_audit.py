"""Every change that a lead makes leaves an event, in the same transaction and with the lead's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Contest, Criterion, GuidelineVersion, Membership, Norm, Project, Run, User
from annotate.services import audit
from annotate.services.files import run_folder
from annotate.views.history import ACTIONS
from rewardmodel.publish import publish
from tests.annotate.access_table import TABLE, fingerprint
from tests.annotate.brought import PAIR, brought, uploaded
from tests.annotate.factory import model_folder, run, user, waiting_task, world
from tests.annotate.keyed import contested_key, failed_qualification
from tests.annotate.lineage import Turn, ended, judge, turn
from tests.annotate.typing_in import typed

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def left() -> Turn:
    return turn(world())


def member(left: Turn) -> list[object]:
    return [Membership.objects.get(project=left.stage.project, user=left.stage.bob).pk]


def invite(left: Turn) -> list[object]:
    client = Client()
    client.force_login(left.stage.alice)
    client.post(reverse("invite", args=["garden"]), CHANGES["invite"][1])
    return [left.stage.project.invites.get().pk]


def fresh_judgements(left: Turn) -> list[object]:
    judge(left.stage)  # of the item to evaluate, which no snapshot takes
    judge(left.stage)
    return []


def waiting_run(left: Turn) -> list[object]:
    return [run(left.stage.project).pk]


def saved_training(left: Turn) -> list[object]:
    job = {"base_model": str(model_folder()), "lora_rank": 16}
    made = run(left.stage.project, "train_reward", job=job, **ended(Run.State.FAILED))
    publish(run_folder(made) / "checkpoints" / "step-3", lambda folder: (folder / "state.json").write_text("{}"))
    return [made.pk]


def failed_run(left: Turn) -> list[object]:
    return [run(left.stage.project, **ended(Run.State.FAILED)).pk]


def contested(left: Turn) -> Contest:
    return contested_key(left.stage)


def key(left: Turn) -> list[object]:
    return [contested(left).check_result.key_id]


def failed(left: Turn) -> list[object]:
    return [failed_qualification(left.stage).pk]


def paused(left: Turn) -> list[object]:
    Project.objects.update(paused_at=timezone.now())
    return []


def address_of(name: str, key: list[object]) -> str:
    return reverse(name) if name == "new_project" else reverse(name, args=["garden", *key])


CHANGES: dict[str, tuple[Callable[[Turn], list[object]], dict[str, Any], str]] = {
    # address: what it names beside the project, form, action
    "launch": (lambda left: ["generate"], {"splits": "train"}, "launched generate"),
    "recipe": (fresh_judgements, {"kinds": "human", "parts": "order", "splits": ["train", "dev", "test"]}, "froze"),
    "take_snapshot": (fresh_judgements, {"name": "again"}, "froze"),
    "run_cancel": (waiting_run, {}, "cancelled"),
    "run_resume": (failed_run, {}, "resumed"),
    "run_settle": (saved_training, {}, "settled"),
    "improve": (lambda left: [], {"method": "ppo"}, "launched improve"),
    "add_prompts": (lambda left: [], {"prompts": "Why is the sky blue?"}, "imported prompts"),
    "data": (lambda left: [], {"file": "a file"}, "uploaded data"),
    "import_change": (lambda left: [brought(left.stage).pk], {"format": "trl-preference"}, "changed import"),
    "import_confirm": (lambda left: [brought(left.stage).pk], {}, "confirmed import"),
    "import_take_back": (lambda left: [brought(left.stage).pk], {}, "discarded import"),
    "archive": (lambda left: [], {}, "asked for archive"),
    "score_texts": (lambda left: [1], {"prompt": "Why?", "responses": ["So."]}, "launched score"),
    "measure": (lambda left: [1], {}, "asked for report"),
    "background_task_cancel": (lambda left: [waiting_task(left.snapshot).pk], {}, "cancelled"),
    "new_project": (lambda left: [], {"name": "Orchard"}, "created"),
    "settings": (lambda left: [], {"overlap": "2"}, "changed"),
    "pause": (lambda left: [], {}, "paused"),
    "resume": (paused, {}, "resumed"),
    "adjudicate": (lambda left: [left.judgement.pk], {"rater": "alice"}, "asked"),
    "make_key": (lambda left: [left.judgement.pk], {"use": "gold", "explanation": "Because."}, "made key"),
    "explain_key": (key, {"explanation": "Because."}, "explained key"),
    "switch_key": (key, {}, "retired key"),
    "move_key": (key, {"earlier": "1"}, "moved key"),
    "decide_contest": (lambda left: [contested(left).pk], {"decision": "accept"}, "accepted contest"),
    "allow_another": (failed, {}, "allowed another try"),
    "let_through": (failed, {}, "let through"),
    "promote": (lambda left: [1], {}, "promoted"),
    "reject": (lambda left: [1], {}, "rejected"),
    "change_role": (member, {"role": "lead"}, "changed role"),
    "remove_member": (member, {}, "removed"),
    "invite": (lambda left: [], {"role": "rater", "days": "7", "max_uses": "1"}, "invited"),
    "revoke_invite": (invite, {}, "revoked"),
}


def test_no_change_that_only_leads_can_make_is_left_out_here() -> None:
    assert set(CHANGES) == {name for (name, method), cells in TABLE.items() if method == "POST" and cells[2] == 403}


@pytest.mark.parametrize("name", CHANGES)
def test_a_lead_s_change_leaves_an_event(client: Client, left: Turn, name: str) -> None:
    key, form, action = CHANGES[name]
    client.force_login(left.stage.alice)
    address = address_of(name, key(left))
    sent = typed(client, address) | form | ({"file": uploaded(PAIR)} if "file" in form else {})
    last = AuditEvent.objects.latest("pk").pk
    client.post(address, sent)
    event = AuditEvent.objects.filter(pk__gt=last).earliest("pk")
    project = Project.objects.latest("pk") if name == "new_project" else left.stage.project
    assert (event.action, event.actor, event.project) == (action, left.stage.alice, project)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_whose_event_cannot_be_stored_does_not_happen(
    left: Turn, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, form, _action = CHANGES[name]
    client = Client(raise_request_exception=False)
    client.force_login(left.stage.alice)
    address = address_of(name, key(left))
    sent = typed(client, address) | form | ({"file": uploaded(PAIR)} if "file" in form else {})
    before = fingerprint()

    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("the trail is broken")

    monkeypatch.setattr(audit.AuditEvent.objects, "create", broken)
    with transaction.atomic():
        assert client.post(address, sent).status_code == 500
    assert fingerprint() == before


def test_every_action_that_services_record_has_words_for_the_history() -> None:
    recorded = set()
    for module in (ROOT / "annotate").rglob("*.py"):
        recorded |= set(re.findall(r'(?:audit\.record|record_change)\(\s*(?:request, )?"([^"]+)"', module.read_text()))
    assert "promoted" not in recorded  # it is recorded under its state's name
    assert {"froze", "invited", "changed password", "deleted"} <= recorded <= set(ACTIONS)
    assert {f"launched {kind}" for kind in Run.Kind} | {"promoted", "rejected"} <= set(ACTIONS)


def test_the_history_shows_who_did_what_and_links_to_it(client: Client, left: Turn) -> None:
    client.force_login(left.stage.alice)
    client.post(reverse("promote", args=["garden", 1]))
    html = client.get(reverse("history", args=["garden"])).content.decode()
    assert 'promoted: <a class="in-text" href="/p/garden/generations/1">generation</a>' in html
    assert f'took a snapshot: <a class="in-text" href="/p/garden/snapshots/{left.snapshot.pk}">snapshot</a>' in html


def test_the_history_is_chosen_by_person_change_and_day(client: Client, left: Turn) -> None:
    client.force_login(left.stage.alice)
    client.post(reverse("promote", args=["garden", 1]))

    def shown(**chosen: str) -> int:
        return len(client.get(reverse("history", args=["garden"]), chosen).context["lines"])

    everything = AuditEvent.objects.filter(project=left.stage.project).count()
    assert shown() == shown(who="alice") == shown(since="2020-01-01") == everything > 2
    assert shown(action="promoted") == 1
    assert shown(who="bob") == shown(until="2020-01-01") == 0
    assert shown(since="2020-13-45", until="yesterday") == everything


def test_the_history_of_another_project_does_not_show(client: Client, left: Turn) -> None:
    orchard = Project.objects.create(slug="orchard", name="Orchard", base_model="x")
    audit.record("created", orchard, actor=left.stage.charlie, project=orchard)
    client.force_login(left.stage.alice)
    assert "charlie" not in client.get(reverse("history", args=["garden"])).content.decode()


@pytest.fixture
def root(client: Client, left: Turn) -> Client:
    client.force_login(user("root", is_superuser=True, is_staff=True))
    return client


def admin(name: str, *key: object) -> str:
    return reverse(f"admin:annotate_{name}", args=key)


def last_event() -> tuple[str, str, str, Project | None]:
    event = AuditEvent.objects.select_related("actor", "project").latest("pk")
    assert event.actor is not None
    return event.action, event.object_type, event.actor.username, event.project


def test_memberships_changed_in_the_administration_are_in_the_trail(root: Client, left: Turn) -> None:
    project = left.stage.project
    root.post(admin("membership_add"), {"user": left.stage.charlie.pk, "project": project.pk, "role": "rater"})
    made = Membership.objects.get(user=left.stage.charlie)
    assert last_event() == ("added", "membership", "root", project)
    form = {"user": left.stage.charlie.pk, "project": project.pk, "role": "lead"}
    root.post(admin("membership_change", made.pk), form)
    assert last_event() == ("changed", "membership", "root", project)
    assert AuditEvent.objects.latest("pk").data["fields"] == ["role"]
    root.post(admin("membership_delete", made.pk), {"post": "yes"})
    assert last_event() == ("deleted", "membership", "root", project)
    assert not Membership.objects.filter(user=left.stage.charlie).exists()


def test_many_memberships_deleted_in_the_administration_leave_an_event_each(root: Client, left: Turn) -> None:
    chosen = list(Membership.objects.values_list("pk", flat=True))
    form = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    root.post(admin("membership_changelist"), form)
    assert AuditEvent.objects.filter(action="deleted", object_type="membership").count() == len(chosen) == 2


def test_members_changed_on_a_project_s_page_of_the_administration_are_in_the_trail(root: Client, left: Turn) -> None:
    project = left.stage.project
    page = root.get(admin("project_change", project.pk)).context
    form = {
        name: value
        for name, value in page["adminform"].form.initial.items()
        if value is not None and value is not False
    }
    form["translations"] = "{}"
    for formset in page["inline_admin_formsets"]:
        prefix, instances = formset.formset.prefix, formset.formset.initial_forms
        form |= {f"{prefix}-TOTAL_FORMS": len(instances), f"{prefix}-INITIAL_FORMS": len(instances)}
        for number, part in enumerate(instances):
            form |= {f"{prefix}-{number}-{n}": v for n, v in part.initial.items()}
            form |= {f"{prefix}-{number}-id": part.instance.pk, f"{prefix}-{number}-project": project.pk}
            if prefix == "criteria":
                form |= {f"{prefix}-{number}-{name}": "{}" for name in ("translations",)}
                form[f"{prefix}-{number}-anchors"] = '{"1": "a", "2": "b", "3": "c", "4": "d", "5": "e"}'
            elif part.instance.user == left.stage.bob:
                form[f"{prefix}-{number}-role"] = "lead"
    answer = root.post(admin("project_change", project.pk), form)
    assert answer.status_code == 302, answer.context["errors"]
    recorded = dict(AuditEvent.objects.filter(data__by_hand=True).values_list("object_type", "data__fields"))
    assert recorded["membership"] == ["role"]
    assert "anchors" in recorded["criterion"]


def test_what_leads_write_is_in_the_trail_when_changed_by_hand(root: Client, left: Turn) -> None:
    project = left.stage.project
    root.post(admin("norm_add"), {"name": "Be kind", "project": project.pk, "active": "on"})
    assert last_event() == ("added", "norm", "root", project)
    norm = Norm.objects.get()
    root.post(admin("normversion_add"), {"norm": norm.pk, "number": 1, "text": "Be kind."})
    assert last_event() == ("added", "normversion", "root", project)
    root.post(
        admin("guidelineversion_add"), {"project": project.pk, "number": 2, "text": "Better.", "translations": "{}"}
    )
    assert last_event() == ("added", "guidelineversion", "root", project)
    assert GuidelineVersion.objects.filter(number=2).exists()
    root.post(
        admin("criterion_delete", Criterion.objects.create(project=project, name="x", anchors={}).pk), {"post": "yes"}
    )
    assert last_event() == ("deleted", "criterion", "root", project)


def test_an_admin_makes_an_account_and_resets_its_password(root: Client, left: Turn) -> None:
    form = {"username": "dora", "usable_password": "true", "password1": "correct horse", "password2": "correct horse"}
    root.post(admin("user_add"), form)
    dora = User.objects.get(username="dora")
    assert dora.check_password("correct horse")
    assert last_event() == ("added", "user", "root", None)
    theirs = Client()
    theirs.force_login(dora)
    page = root.get(admin("user_change", dora.pk)).content.decode()
    assert "correct horse" not in page
    form = {"usable_password": "true", "password1": "another horse", "password2": "another horse"}
    root.post(reverse("admin:auth_user_password_change", args=[dora.pk]), form)
    dora.refresh_from_db()
    assert dora.check_password("another horse")
    assert last_event() == ("changed password", "user", "root", None)
    assert theirs.get(reverse("account")).status_code == 302
    weak = {"usable_password": "true", "password1": "short", "password2": "short"}
    assert root.post(reverse("admin:auth_user_password_change", args=[dora.pk]), weak).status_code == 200
    assert not any("horse" in str(event.data) for event in AuditEvent.objects.all())
