"""How static files are served: compressed, and under names that change with their content."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):
    """Also renames what ES modules import, so that a page never mixes modules of two versions."""

    support_js_module_import_aggregation = True
