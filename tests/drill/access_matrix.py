"""Every address of the site as every kind of person, over HTTP against a real web server.

The table is the one of :mod:`tests.annotate.access_table`, allowed cells written by hand.
"""

from __future__ import annotations

import httpx

from tests import site
from tests.drill.outcome import Outcome

NAMES = {"stranger": "charlie", "rater": "bob", "lead": "alice", "admin": "root"}


def drill() -> list[Outcome]:
    """Count the cells of the table in which somebody gets further than it says."""
    with site.fresh_site() as folder:
        from tests.annotate.access_table import TABLE, Answer, names, walk
        from tests.annotate.factory import user, world
        from tests.annotate.lineage import turn

        left = turn(world())
        user("root", is_superuser=True, is_staff=True)
        site.set_passwords()
        with site.web_server(folder) as address:
            clients = {person: site.signed_in(address, name) for person, name in NAMES.items()}
            clients["anonymous"] = httpx.Client(base_url=address)
            clients["anonymous"].get("/sign-in")

            def over_http(person: str, method: str, path: str) -> Answer:
                client = clients[person]
                headers = {"X-CSRFToken": client.cookies.get("csrftoken") or "", "Content-Type": "application/json"}
                content = b"{}" if method == "POST" else b""
                response = client.request(method, path, content=content, headers=headers, follow_redirects=False)
                return Answer(response.status_code, response.headers.get("Location", ""), response.text)

            report = walk(over_http, left)
        missing = {name for name, _pattern in names() if not name.startswith("admin:")} - {name for name, _ in TABLE}
    for line in [*report.leaks, *report.surprises, *sorted(missing)]:
        print(f"    {line}")
    return [
        Outcome("addresses × people: leaks", f"{len(report.leaks)} of {report.cells} cells", "0", met=not report.leaks),
        Outcome(
            "addresses × people: cells other than written down, addresses not in the table",
            f"{len(report.surprises)} and {len(missing)}",
            "0 and 0",
            met=not report.surprises and not missing,
        ),
    ]
