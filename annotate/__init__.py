"""The web application: people's judgements, runs, and the lineage between them."""

from annotate.celery import app as celery_app

__all__ = ["celery_app"]
