"""The queue against a model of it: raters claim, let leases run out, submit, resubmit, edit, skip, type and adjudicate.

Hypothesis draws the steps and shrinks what fails; every example runs on real PostgreSQL.
"""

from __future__ import annotations

import time

from tests import site
from tests.drill.outcome import Outcome

EXAMPLES = 2000
STEPS = 10
"""Steps of an example at most; Hypothesis mostly takes them all."""


def drill() -> list[Outcome]:
    """Run the state machine of the queue over many examples."""
    with site.fresh_site():
        from django.db import transaction
        from hypothesis import HealthCheck, settings
        from hypothesis.stateful import run_state_machine_as_test

        from tests.annotate.queue_machine import QueueMachine

        began = time.monotonic()
        QueueMachine.prepare()
        with transaction.atomic():
            run_state_machine_as_test(
                QueueMachine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        seconds = time.monotonic() - began
    count = QueueMachine.examples
    return [
        Outcome(
            "queue machine: examples in which every invariant held",
            f"{count} in {seconds:.0f} s",
            f"≥ {EXAMPLES}",
            met=count >= EXAMPLES,
        )
    ]
