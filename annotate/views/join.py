"""Following an invitation: with the account that one has, or with a new one."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from annotate.access import get_invitation
from annotate.forms import SignUpForm
from annotate.models import Invite
from annotate.services import Refused, invites
from annotate.views.account import begin_session


@login_not_required
@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@never_cache
def join(request: HttpRequest, token: str) -> HttpResponse:
    """What the invitation is to, and a button or a form to accept it; 410 when it is closed."""
    invite = get_invitation(token)
    if reason := invites.why_closed(invite):
        return _page(request, invite, refusal=reason, status=410)
    if request.method == "GET":
        return _page(request, invite, form=SignUpForm())
    if request.user.is_authenticated:
        return _join(request, invite)
    return _register(request, invite)


def _join(request: HttpRequest, invite: Invite) -> HttpResponse:
    try:
        invites.join(invite=invite, user=request.user)  # type: ignore[arg-type]  # signed in
    except Refused as refusal:
        return _page(request, invite, refusal=str(refusal), status=409)
    return _welcome(request, invite)


def _register(request: HttpRequest, invite: Invite) -> HttpResponse:
    form = SignUpForm(request.POST)
    if form.is_valid():
        values = form.cleaned_data
        try:
            user = invites.register(invite=invite, username=values["username"], password=values["password1"])
        except Refused as refusal:
            if not refusal.place:
                return _page(request, invite, refusal=str(refusal), status=409)
            form.add_error(refusal.place, str(refusal))
        else:
            begin_session(request, user)
            return _welcome(request, invite)
    return _page(request, invite, form=form)


def _page(
    request: HttpRequest, invite: Invite, *, form: SignUpForm | None = None, refusal: str = "", status: int = 200
) -> HttpResponse:
    context = {"invite": invite, "form": form, "refusal": refusal}
    return render(request, "registration/join.html", context, status=status)


def _welcome(request: HttpRequest, invite: Invite) -> HttpResponse:
    name = invite.project.in_language("name", get_language() or "en")
    messages.success(request, _("Welcome to “%(project)s”.") % {"project": name})
    return redirect("project", slug=invite.project.slug)
