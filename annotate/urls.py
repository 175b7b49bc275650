"""Addresses of the site."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, register_converter
from django.views.decorators.http import require_GET, require_POST
from django.views.generic import RedirectView
from django.views.i18n import set_language

from annotate.handles import SlotConverter
from annotate.views import (
    account,
    datasets,
    guidelines,
    history,
    home,
    imports,
    join,
    judgements,
    launch,
    lineage,
    members,
    mine,
    project,
    prompts,
    qualify,
    quality,
    rate,
    runs,
    setup,
    start,
)

register_converter(SlotConverter, "slot")

of_a_project = [
    path("", project.project, name="project"),
    path("loop", project.loop, name="loop"),
    path("launch/<str:kind>", launch.launch, name="launch"),
    path("rate", rate.page, name="rate"),
    path("rate/next", rate.next_item, name="next_item"),
    path("rate/ahead", rate.item_ahead, name="item_ahead"),
    path("rate/instructions", guidelines.reading, name="reading"),
    path("rate/instructions/<int:pk>/read", guidelines.read, name="read_guideline"),
    path("rate/last", rate.last_answer, name="last_answer"),
    path("slots/<slot:pk>/submit", rate.submit, name="submit"),
    path("slots/<slot:pk>/skip", rate.skip, name="skip"),
    path("slots/<slot:pk>/renew", rate.renew, name="renew"),
    path("slots/<slot:pk>/draft", rate.draft, name="draft"),
    path("slots/<slot:pk>/feedback", qualify.feedback, name="feedback"),
    path("slots/<slot:pk>/change", rate.change, name="change"),
    path("mine", mine.mine, name="mine"),
    path("mine/reveal", mine.reveal, name="reveal"),
    path("mine/checks/<int:pk>/contest", mine.contest, name="contest"),
    path("quality", quality.quality, name="quality"),
    path("quality/keys/<int:pk>/explain", quality.explain_key, name="explain_key"),
    path("quality/keys/<int:pk>/switch", quality.switch_key, name="switch_key"),
    path("quality/keys/<int:pk>/move", quality.move_key, name="move_key"),
    path("quality/contests/<int:pk>", quality.decide_contest, name="decide_contest"),
    path("quality/raters/<int:pk>/another-try", quality.allow_another, name="allow_another"),
    path("quality/raters/<int:pk>/let-through", quality.let_through, name="let_through"),
    path("runs/", runs.runs, name="runs"),
    path("runs/<uuid:pk>", runs.run, name="run"),
    path("runs/<uuid:pk>/live", runs.live, name="run_live"),
    path("runs/<uuid:pk>/series", runs.series, name="run_series"),
    path("runs/<uuid:pk>/cancel", runs.cancel, name="run_cancel"),
    path("runs/<uuid:pk>/resume", runs.resume, name="run_resume"),
    path("generations/<int:number>", lineage.generation, name="generation"),
    path("generations/<int:number>/promote", launch.promote, name="promote"),
    path("generations/<int:number>/reject", launch.reject, name="reject"),
    path("reward-models/<int:number>", lineage.reward_model, name="reward_model"),
    path("snapshots/", launch.take_snapshot, name="take_snapshot"),
    path("snapshots/<int:pk>", datasets.snapshot, name="snapshot"),
    path("snapshots/<int:pk>/preferences.jsonl", datasets.export, name="export"),
    path("data/", imports.data, name="data"),
    path("data/<int:pk>", imports.data_import, name="import"),
    path("data/<int:pk>/live", imports.live, name="import_live"),
    path("data/<int:pk>/read", imports.change, name="import_change"),
    path("data/<int:pk>/confirm", imports.confirm, name="import_confirm"),
    path("data/<int:pk>/take-back", imports.take_back, name="import_take_back"),
    path("prompts/", prompts.prompts, name="prompts"),
    path("prompts/add", prompts.add, name="add_prompts"),
    path("prompts/<int:pk>", prompts.prompt, name="prompt"),
    path("completions/<int:pk>", lineage.completion, name="completion"),
    path("judgements/", judgements.judgements, name="judgements"),
    path("judgements/<int:pk>", judgements.judgement, name="judgement"),
    path("judgements/<int:pk>/key", quality.make_key, name="make_key"),
    path("judgements/<int:pk>/adjudicate", judgements.adjudicate, name="adjudicate"),
    path("members/", members.members, name="members"),
    path("members/<int:pk>/role", members.change_role, name="change_role"),
    path("members/<int:pk>/remove", members.remove, name="remove_member"),
    path("members/invites", members.invite, name="invite"),
    path("members/invites/<int:pk>/revoke", members.revoke, name="revoke_invite"),
    path("settings", setup.settings, name="settings"),
    path("settings/pause", setup.pause, name="pause"),
    path("settings/resume", setup.resume, name="resume"),
    path("history", history.history, name="history"),
]

urlpatterns = [
    path("", home.home, name="home"),
    path("rate", start.start, name="start"),
    path("new", setup.new, name="new_project"),
    path("sign-in", account.SignIn.as_view(), name="login"),
    path("sign-out", auth.LogoutView.as_view(), name="logout"),
    path("account", account.account, name="account"),
    path("join/<str:token>", join.join, name="join"),
    path("language", login_not_required(require_POST(set_language)), name="set_language"),
    path("p/<slug:slug>/", include(of_a_project)),
    path("admin/login/", account.admin_sign_in, name="admin_sign_in"),
    path("admin/password_change/", require_GET(RedirectView.as_view(pattern_name="account")), name="admin_password"),
    path("admin/", admin.site.urls),
]
