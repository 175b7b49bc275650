"""Signing in, and a person's own account."""

from __future__ import annotations

import math
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import SignedInRequest, get_account, projects_of
from annotate.forms import NewPasswordForm, SignInForm
from annotate.models import User
from annotate.services import accounts, throttle

BROWSER_COOKIE = "hone_browser"


class SignIn(LoginView):
    """The sign-in page. A try that must wait is told how long, and its password is not looked at."""

    authentication_form = SignInForm
    redirect_authenticated_user = True
    http_method_names = ["get", "head", "post"]

    @method_decorator(sensitive_post_parameters())
    def post(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        """Try to sign in."""
        name = request.POST.get("username", "")
        try:
            attempt = admit(request, name)
        except throttle.TooManyTries as refusal:
            return self._wait(name, refusal.wait)
        form = self.get_form()
        if not form.is_valid():
            return self.form_invalid(form)
        throttle.succeeded(attempt)
        begin_session(request, form.get_user())
        response = redirect(self.get_success_url())
        response.set_cookie(
            BROWSER_COOKIE,
            throttle.remember(name=name, browser=request.COOKIES.get(BROWSER_COOKIE, "")),
            max_age=timedelta(days=throttle.BROWSER_DAYS),
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return response

    def _wait(self, name: str, wait: timedelta) -> HttpResponse:
        form = SignInForm(self.request, initial={"username": name})
        context = self.get_context_data(form=form, problem=wait_sentence(wait))
        response = self.render_to_response(context, status=429)
        response["Retry-After"] = str(math.ceil(wait.total_seconds()))
        return response


def admit(request: HttpRequest, name: str) -> throttle.Try:
    """Count a try at somebody's password, see :func:`annotate.services.throttle.admit`."""
    address = request.META.get("REMOTE_ADDR") or "unknown"
    return throttle.admit(name=name, address=address, browser=request.COOKIES.get(BROWSER_COOKIE, ""))


def wait_sentence(wait: timedelta) -> str:
    """When somebody may try again."""
    minutes = math.ceil(wait.total_seconds() / 60)
    return ngettext(
        "Too many tries with a wrong password. Try again in %(minutes)d minute.",
        "Too many tries with a wrong password. Try again in %(minutes)d minutes.",
        minutes,
    ) % {"minutes": minutes}


def begin_session(request: HttpRequest, user: User) -> None:
    """Sign somebody in under a new session key, until a fixed time.

    The time does not slide: a page left open renews its lease by itself, and would renew the session with it.
    Sessions that are over are deleted here, since nothing else does it.
    """
    login(request, user)
    request.session.clear_expired()
    request.session.set_expiry(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE))


@login_not_required
@require_GET
def admin_sign_in(request: SignedInRequest) -> HttpResponse:
    """The administration has no sign-in of its own, so that there is no second place to guess passwords at."""
    user = get_account(request)
    if user.is_anonymous:
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
    if not user.is_staff:
        raise PermissionDenied(_("The administration is for superusers."))
    return redirect("admin:index")


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
@never_cache
def account(request: SignedInRequest) -> HttpResponse:
    """The viewer's name and projects, and a form to change the password."""
    user = get_account(request)
    form = NewPasswordForm(user, request.POST or None)
    problem, status = "", 200
    if request.method == "POST":
        try:
            attempt = admit(request, user.username)
        except throttle.TooManyTries as refusal:
            form, problem, status = NewPasswordForm(user), wait_sentence(refusal.wait), 429
        else:
            if form.is_valid():
                throttle.succeeded(attempt)
                accounts.change_password(user=user, password=form.cleaned_data["new_password1"])
                update_session_auth_hash(request, user)
                messages.success(request, _("Your password is changed; other browsers are signed out."))
                return redirect("account")
            if "old_password" not in form.errors:
                throttle.succeeded(attempt)
    context = {
        "form": form,
        "problem": problem,
        "memberships": projects_of(user),
        "session_ends": request.session.get_expiry_date(),
    }
    return render(request, "registration/account.html", context, status=status)
