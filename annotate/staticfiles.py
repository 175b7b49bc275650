"""Which static files are served, and how: compressed, under names that change with their content."""

from __future__ import annotations

from django.contrib.staticfiles.apps import StaticFilesConfig as DjangoStaticFilesConfig
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesConfig(DjangoStaticFilesConfig):
    """Leaves out what npm packages bring for other uses; htmx's extensions import files by names we do not have."""

    ignore_patterns = [*DjangoStaticFilesConfig.ignore_patterns, "ext", "*.ts", "*.amd.js", "*.cjs.js"]


class Storage(CompressedManifestStaticFilesStorage):
    """Also renames what ES modules import, so that a page never mixes modules of two versions."""

    support_js_module_import_aggregation = True
