"""The application's name to Django."""

from __future__ import annotations

from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    """Everything of ours that Django knows is one application."""

    name = "annotate"
    verbose_name = "Hone"
