"""Forms in which people name themselves and choose passwords; all others are read where they are handled."""

from __future__ import annotations

from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm, PasswordChangeForm, UserCreationForm
from django.core.validators import MaxLengthValidator
from django.forms import BaseForm

from annotate.models import User

LONGEST_PASSWORD = 1000
"""Characters; what is longer is no password but an attempt to keep the server busy."""


class SignInForm(AuthenticationForm):
    """Name and password."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        _limit(self, "password")


class SignUpForm(UserCreationForm):
    """A new account: its name, and a password typed twice."""

    class Meta(BaseUserCreationForm.Meta):
        model = User

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        _limit(self, "password1", "password2")


class NewPasswordForm(PasswordChangeForm):
    """The password as it is, and a new one typed twice."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        _limit(self, "old_password", "new_password1", "new_password2")


def _limit(form: BaseForm, *fields: str) -> None:
    for name in fields:
        form.fields[name].validators.append(MaxLengthValidator(LONGEST_PASSWORD))
