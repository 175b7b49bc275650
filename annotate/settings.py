"""All of the site's configuration. What may differ between sites is read from the environment here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from annotate import embedded, environment

BASE_DIR = Path(__file__).resolve().parent.parent

# The site. asgi.py refuses to serve without a secret key and hosts; commands need neither.

DEBUG = environment.boolean("DEBUG", False)
SECRET_KEY = environment.text("SECRET_KEY", "only-for-development" if DEBUG else "")
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = environment.words("CSRF_TRUSTED_ORIGINS")
HTTPS = environment.boolean("HONE_HTTPS", not DEBUG)
"""Whether people reach the site by https; then cookies travel by nothing else."""

ROOT_URLCONF = "annotate.urls"
ASGI_APPLICATION = "annotate.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "annotate.staticfiles.StaticFilesConfig",
    "django.contrib.postgres",
    "csp",
    "django_htmx",
    "annotate",
]

MIDDLEWARE = [
    "annotate.observe.requests.Observed",
    "annotate.headers.security_headers",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "template_fragments": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "template_fragments",
        "OPTIONS": {"MAX_ENTRIES": 2_000},
    },
}
"""Each process keeps its own; what is kept is found by a digest of all that it is made of, and never goes stale."""

# Files

HONE_DATA_DIR = environment.folder("HONE_DATA_DIR", BASE_DIR / "var")
RUNS_DIR = HONE_DATA_DIR / "runs"
IMPORTS_DIR = HONE_DATA_DIR / "imports"
"""Uploaded files of data, each until it was imported or discarded."""
MODELS_DIR = HONE_DATA_DIR / "models"
HONE_MODEL_ROOTS = [MODELS_DIR, RUNS_DIR, *environment.folders("HONE_MODEL_ROOTS")]
"""Folders that model folders must lie under; a path from a form or a command reaches nothing else."""

# Database. synchronous_commit is left on: an answer that was acknowledged survives a crash.

HONE_EMBEDDED_POSTGRES = not environment.text("DATABASE_URL")
DATABASES = {"default": environment.database("DATABASE_URL", embedded.database_url(HONE_DATA_DIR))}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
"""A connection that PostgreSQL dropped is replaced before a request is given it."""
DATABASES["default"]["OPTIONS"]["pool"] = {
    "min_size": 1,
    "max_size": environment.integer("HONE_DATABASE_POOL", 20, lowest=1, highest=1000),
    "timeout": 10,
}

# Background work. Messages carry only numbers of rows, and a task that is rung twice finds its row claimed.

HONE_EMBEDDED_VALKEY = not environment.text("CELERY_BROKER_URL")
CELERY_BROKER_URL = environment.text("CELERY_BROKER_URL", embedded.broker_url(HONE_DATA_DIR))
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_POOL = "threads"
"""A thread sees at once that its worker was asked to stop. Messages are acknowledged when they arrive: a lost one is
sent again by the sweep, and RabbitMQ breaks with a consumer that keeps one for half an hour."""
CELERY_TASK_DEFAULT_QUEUE = "light"
CELERY_TASK_ROUTES = {"annotate.tasks.run_job": {"queue": "heavy"}}
HONE_RUN_LOST_SECONDS = environment.integer("HONE_RUN_LOST_SECONDS", 90, lowest=6, highest=3600)
"""A run whose worker was not heard of for so long is begun again by another; its process ends itself after a third."""
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "annotate.tasks.sweep", "schedule": HONE_RUN_LOST_SECONDS / 3},
    "count": {"task": "annotate.tasks.count", "schedule": 20.0},
}
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# What generates text where a run does not say otherwise. The server's key, HONE_OPENAI_API_KEY, is read by the job that
# sends it and by nothing else.

HONE_ENGINE = environment.text("HONE_ENGINE", "vllm", one_of=("vllm", "transformers", "openai"))
HONE_OPENAI_BASE_URL = environment.address("HONE_OPENAI_BASE_URL", required=HONE_ENGINE == "openai")
HONE_OPENAI_MODEL = environment.text("HONE_OPENAI_MODEL", required=HONE_ENGINE == "openai")
"""Name of the model at that server; it stands for generation 0 of every project."""

# People

AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["annotate.sessions.Backend"]
SESSION_ENGINE = "annotate.sessions"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
SESSION_COOKIE_AGE = 12 * 3600
"""Seconds from signing in to the session's end, which does not slide."""

# Browsers: no inline script or style, nothing from other sites, no frames. See also annotate/headers.py.

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "frame-src": [NONE],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = (
    environment.integer("HONE_HSTS_SECONDS", 30 * 24 * 3600, lowest=0, highest=10 * 365 * 24 * 3600) if HTTPS else 0
)
SECURE_HSTS_INCLUDE_SUBDOMAINS = environment.boolean("HONE_HSTS_SUBDOMAINS", False)
SECURE_HSTS_PRELOAD = environment.boolean("HONE_HSTS_PRELOAD", False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
"""Whether a domain's other hosts are reached by https only is for its owner to say, by the two settings above."""

# What one request may bring. A submission of nine edits of 50,000 characters is below 2 MiB.

MAX_BODY_BYTES = 16 * 2**20
"""Of anything; held by annotate/bodies.py before Django sees the request."""
MAX_DATA_BYTES = environment.integer("HONE_MAX_DATA_MIB", 1024, lowest=1, highest=2**20) * 2**20
"""Of a file of data that a lead uploads; larger ones are for manage.py import_comparisons."""
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler", "annotate.uploads.DiskUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 2**19
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
DATA_UPLOAD_MAX_NUMBER_FILES = 10

# Static files: ours by their app, those of npm packages under a name without a version.

STATIC_URL = "static/"
STATIC_ROOT = HONE_DATA_DIR / "static"
STATICFILES_DIRS = [
    ("vendor/diff", BASE_DIR / "node_modules" / "diff" / "libesm"),
    ("vendor/htmx", BASE_DIR / "node_modules" / "htmx.org" / "dist"),
    ("vendor/inter", BASE_DIR / "node_modules" / "@fontsource-variable" / "inter" / "files"),
    ("vendor/sortable", BASE_DIR / "node_modules" / "sortablejs" / "modular"),
    ("vendor/uplot", BASE_DIR / "node_modules" / "uplot" / "dist"),
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "annotate.staticfiles.Storage"},
}

# Language and time

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "annotate" / "locale"]
USE_TZ = True
TIME_ZONE = environment.text("TIME_ZONE", "UTC")

# Logs go to standard error, one line an event; whoever starts the process keeps them.

HONE_LOG_FORMAT = environment.text("HONE_LOG_FORMAT", "text", one_of=("text", "json"))
_TO_ROOT: dict[str, Any] = {"handlers": [], "propagate": True}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"safe_paths": {"()": "annotate.observe.logs.SafePaths"}},
    "formatters": {
        "text": {"()": "annotate.observe.logs.TextFormatter"},
        "json": {"()": "annotate.observe.logs.JsonFormatter"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": HONE_LOG_FORMAT, "filters": ["safe_paths"]},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": _TO_ROOT,
        # A refused request has its line in the access log, which masks what must not be read.
        "django.request": {"level": "ERROR"},
        "uvicorn": _TO_ROOT,
        "uvicorn.error": _TO_ROOT,
        "uvicorn.access": {"handlers": [], "propagate": False},
    },
}

# Prometheus reads /metrics with this token; without one the page does not exist.

HONE_METRICS_TOKEN = environment.text("HONE_METRICS_TOKEN")
