"""The accounts of an archive: who has the same name here is the same person, and all others get an account.

An account that is made here has no password, so nobody can sign in by it before an administrator sets one, which is
how its owner claims it. Rights on the site and addresses of mail never come with an archive.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError

from annotate.models import User
from annotate.services.archive.kinds import OF_PEOPLE, PEOPLE
from annotate.services.archive.package import Package, wrong

_FIELDS = {field.name: field for field in User._meta.concrete_fields}


def bring_people(package: Package) -> tuple[dict[int, int], list[str]]:
    """Find or make the accounts that rows refer to.

    :returns: numbers here by those of the archive, and the names of the accounts that were made.
    :raises Refused: when a line will not do, or an account of the same name is another kind of rater.
    """
    users: dict[int, int] = {}
    made: list[str] = []
    for line, row in package.rows(PEOPLE):
        number = row.pop("id", None)
        if type(number) is not int or number in users or set(row) != set(OF_PEOPLE):
            raise wrong(PEOPLE, line, "it is not an account")
        user = User.objects.filter(username=row["username"]).first() if isinstance(row["username"], str) else None
        if user is None:
            user = _make(row, line)
            made.append(user.username)
        elif user.kind != row["kind"]:
            raise wrong(
                PEOPLE,
                line,
                f"there is an account {user} here already, which is another kind of rater",
            )
        elif user.pk in users.values():
            raise wrong(PEOPLE, line, "the account comes twice")
        users[number] = user.pk
    return users, made


def _make(row: dict[str, object], line: int) -> User:
    try:
        user = User(**{name: _FIELDS[name].to_python(row[name]) for name in OF_PEOPLE})
        user.set_unusable_password()
        user.full_clean()
    except (ValidationError, TypeError, ValueError) as problem:
        reason = problem.messages[0] if isinstance(problem, ValidationError) else str(problem)
        raise wrong(PEOPLE, line, reason) from problem
    user.save()
    return user
