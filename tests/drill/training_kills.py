"""Workers and trainers killed at random moments: every run completes, and in the weights of one that was left alone.

Real workers, broker, database and processes; only the model is tiny and the times after which a
worker counts as lost are short. One run of each kind that nobody disturbs gives the weights that all
others must end in.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.drill.outcome import Outcome
from tests.drill.trainers import Trainers, a_project, jobs, start_worker, stop_worker, sweeping, wait_until
from tests.site import fresh_site

KILLS_OF_A_KIND = 10
SEED = 20
LOST_SECONDS = 9
RUN_SECONDS = 180.0
REWARD = {"epochs": 8, "dtype": "float32", "checkpoint_seconds": 0.0, "threads": 1}
IMPROVE = {
    "updates": 6,
    "prompts_per_update": 4,
    "samples_per_prompt": 4,
    "minibatches": 2,
    "dtype": "float32",
    "threads": 1,
    "engine": {"name": "transformers", "dtype": "float32"},
}


def drill() -> list[Outcome]:
    """Kill one worker or trainer in each of twenty runs, two runs at a time."""
    print(f"  seed {SEED}", flush=True)
    with fresh_site(HONE_ENGINE="transformers", HONE_RUN_LOST_SECONDS=str(LOST_SECONDS)) as folder:
        launches = _prepare(a_project(folder, prompts=24))
        workers = Workers(folder, len(launches))
        lanes = [Lane(name, launch, workers, SEED + n) for n, (name, launch) in enumerate(launches.items())]
        with sweeping(folder), Trainers() as trainers:
            threads = [threading.Thread(target=lane.drive) for lane in lanes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            workers.stop()
        return _outcomes(lanes, trainers)


@dataclass
class Lane:
    """One kind of run, run again and again."""

    name: str
    launch: Callable[[], Any]
    workers: Workers
    seed: int
    kills: list[str] = field(default_factory=list)
    complete: int = 0
    equal: int = 0
    overlaps: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the kill until the run was complete."""

    def drive(self) -> None:
        """Time a run that nobody disturbs, then disturb others."""
        from django.db import connections

        rng = random.Random(self.seed)
        try:
            straight = self._wait(self._begin())
            took = (straight.finished_at - straight.started_at).total_seconds()
            while len(self.kills) < KILLS_OF_A_KIND:
                run = self._begin()
                began = time.monotonic()
                time.sleep(rng.uniform(0.0, took))
                if not self._kill(run, rng.choice(["worker", "trainer"]), began):
                    continue  # it was over before its moment came
                killed = time.monotonic()
                run = self._wait(run)
                self.seconds.append(time.monotonic() - killed)
                self.complete += run.state == run.State.SUCCEEDED
                self.equal += (run.result or {}).get("manifest_sha256") == straight.result["manifest_sha256"]
                self.overlaps += _overlaps(run)
        finally:
            connections.close_all()

    def _begin(self) -> Any:
        """Queue a run and wait until a worker has it."""
        from annotate.models import Run
        from annotate.services.runs import call_worker

        run = self.launch()
        call_worker(run)
        wait_until(lambda: Run.objects.get(pk=run.pk).state != Run.State.QUEUED, RUN_SECONDS)
        return run

    def _wait(self, run: Any) -> Any:
        from annotate.models import Run

        wait_until(lambda: not Run.objects.get(pk=run.pk).active, RUN_SECONDS)
        return Run.objects.get(pk=run.pk)

    def _kill(self, run: Any, victim: str, began: float) -> bool:
        """Kill -9 the process of a run, as soon as there is one, or the worker that started it.

        :returns: False when the run is over already.
        """
        from annotate.models import Run

        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = [job for job in jobs() if str(run.pk) in " ".join(job.cmdline())]
            return bool(found) or not Run.objects.get(pk=run.pk).active

        wait_until(look)
        for job in found:
            if victim == "trainer":
                job.kill()
            else:
                self.workers.kill(job.ppid())
        if not found:
            return False
        self.kills.append(victim)
        print(f"  {self.name}: {victim} killed after {time.monotonic() - began:.1f} s", flush=True)
        return True


class Workers:
    """Heavy workers, each of which is started again when it was killed."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._started = [start_worker(folder, "heavy", number) for number in range(count)]
        self._lock = threading.Lock()

    def kill(self, pid: int) -> None:
        """Kill -9 the worker of that process id and start it again, as whoever runs a site would."""
        with self._lock:
            for number, worker in enumerate(self._started):
                if worker.pid == pid:
                    worker.kill()
                    worker.wait()
                    self._started[number] = start_worker(self._folder, "heavy", number)

    def stop(self) -> None:
        """Ask all of them to end."""
        for worker in self._started:
            stop_worker(worker)


def _prepare(project: Any) -> dict[str, Callable[[], Any]]:
    """Make what training starts from.

    :returns: how to queue a run of each kind, by name.
    """
    from annotate.models import RewardModel, User
    from annotate.services.execute import carry_out
    from annotate.services.improving import Wish
    from annotate.services.runs import launch_generate, launch_improve, launch_train_reward
    from annotate.services.simulate import judge_everything

    carry_out(launch_generate(project=project, actor=None, ring=False))
    judge_everything(project=project, seed=1)
    first = launch_train_reward(
        project=project, actor=None, kinds=(User.Kind.SIMULATED,), settings={**REWARD, "epochs": 1}, ring=False
    )
    carry_out(first)
    first.refresh_from_db()
    # With a stated seed: a further reward model would get another one by itself.
    shared: dict[str, Any] = {"project": project, "actor": None, "ring": False, "seed": SEED}
    reward_model = RewardModel.objects.get(run=first)
    return {
        "reward model": lambda: launch_train_reward(snapshot=first.snapshot, settings=REWARD, **shared),
        "PPO": lambda: launch_improve(wish=Wish(reward_model=reward_model, settings=IMPROVE), **shared),
    }


def _overlaps(run: Any) -> int:
    """Pairs of attempts that worked at the same time, by what they themselves wrote."""
    from annotate.services.files import run_folder

    times = []
    for path in sorted(run_folder(run).glob("attempt-*/progress.jsonl")):
        lines = [json.loads(line)["at"] for line in path.read_text().splitlines()]
        if lines:
            times.append((min(lines), max(lines)))
    times.sort()
    return sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))


def _outcomes(lanes: list[Lane], trainers: Trainers) -> list[Outcome]:
    wanted = KILLS_OF_A_KIND * len(lanes)
    kills = [kill for lane in lanes for kill in lane.kills]
    complete, equal = sum(lane.complete for lane in lanes), sum(lane.equal for lane in lanes)
    overlaps = sum(lane.overlaps for lane in lanes)
    longest = max((second for lane in lanes for second in lane.seconds), default=0.0)
    what = f"{kills.count('worker')} workers and {kills.count('trainer')} trainers killed -9"
    all_of_them, limit = f"{wanted} of {wanted}", f"under {RUN_SECONDS:.0f} s"
    return [
        Outcome(f"{what}: runs complete", f"{complete} of {wanted}", all_of_them, complete == wanted),
        Outcome("weights equal to the undisturbed run's", f"{equal} of {wanted}", all_of_them, equal == wanted),
        Outcome("trainers at work on one run at once", str(trainers.most), "1", trainers.most == 1),
        Outcome("attempts that overlapped", str(overlaps), "0", overlaps == 0),
        Outcome("longest from a kill to the run's end", f"{longest:.0f} s", limit, longest < RUN_SECONDS),
    ]
