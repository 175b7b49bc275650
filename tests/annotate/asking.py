"""Asking for an improvement of the policy as Alice does, for tests."""

from __future__ import annotations

from typing import Any

from annotate.models import Run
from annotate.services.improving import Wish
from annotate.services.methods import Method
from annotate.services.runs import launch_improve
from tests.annotate.factory import World


def improve(stage: World, method: Method, **wish: Any) -> Run:
    return launch_improve(project=stage.project, actor=stage.alice, wish=Wish(method=method, **wish), ring=False)
