"""What machines ask of the site: does the process live, can it serve, how is it doing.

Answered by :class:`annotate.observe.requests.Observed` ahead of sign-in, host names and https.
"""

from __future__ import annotations

import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from annotate.observe import metrics as figures
from annotate.observe import readiness

PLAIN = "text/plain; charset=utf-8"


@require_safe
@never_cache
def healthz(_request: HttpRequest) -> HttpResponse:
    """That the process lives and answers, whatever the state of what it needs."""
    return HttpResponse("ok\n", content_type=PLAIN)


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """A line for each thing that serving needs; 503 where one is missing.

    ``?exclude=broker`` leaves things out of the verdict, though not out of the lines: judgements are taken
    without a broker, so that a load balancer should not give up on a server for its sake.
    """
    excluded = {name for value in request.GET.getlist("exclude") for name in value.split(",")}
    found = readiness.findings()
    lines = [f"{finding.name}: {finding.wrong or 'ok'}\n" for finding in found]
    ready = not any(finding.wrong for finding in found if finding.name not in excluded)
    return HttpResponse("".join(lines), status=200 if ready else 503, content_type=PLAIN)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """The figures for Prometheus, for whoever has the token; without one in the settings there is no such page."""
    if not settings.HONE_METRICS_TOKEN:
        return HttpResponse("not found\n", status=404, content_type=PLAIN)
    scheme, _space, given = request.headers.get("Authorization", "").partition(" ")
    right = secrets.compare_digest(given.strip().encode(), settings.HONE_METRICS_TOKEN.encode())
    if scheme.lower() != "bearer" or not right:
        headers = {"WWW-Authenticate": "Bearer"}
        return HttpResponse("a token is needed\n", status=401, content_type=PLAIN, headers=headers)
    body, content_type = figures.scrape(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type=content_type)
