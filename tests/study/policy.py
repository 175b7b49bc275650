"""How much of a known preference each method wins, and for how many nats: PPO, RLOO, best-of-n, SFT on the best, DPO.

The reward is the simulated rater's hidden preference itself, on the scale of a published reward model, so that methods
are compared and not reward models. All start from the default model, practise on the sample project's train prompts,
sample at one temperature, and are measured on its test prompts. Everything lies under ``var/study/policy``; what is
there is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from annotate.simulated import hidden_preference
from annotate.stats.estimate import Estimate
from annotate.stats.intervals import mean_interval
from policy.contract import Advantage, EngineConfig, ImproveJob, Sampling
from policy.data import Prompt
from policy.engines.base import Completion, Engine, start_engine
from policy.methods import DpoJob, SftJob, best_of_n_kl_bound
from policy.rollout import TokenPrompt
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.memory import keep_freed_memory
from rewardmodel.publish import write_json
from tests.bench.bar import Bar
from tests.study.measuring import DRAWS, Point, best_of, defined, draw, measure
from tests.study.trainers import Practice, Teacher, imitate_best, online, prefer
from tools.model import MODEL, unpack_model

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "var" / "study" / "policy"
SEEDS = (0, 1, 2)
STOPS = (4, 8, 16, 32)
"""Updates after which PPO and RLOO are measured."""
KL_TARGET = 12.0
"""Nats an answer that they aim at: twice the default, so that the curve goes on where the default would stay."""
BEST_OF = (1, 2, 4, 8, 16)
LEARNED_FROM = (4, 16)
"""Answers a prompt of which SFT imitates the best and DPO learns the order."""
BETAS = (0.1, 0.03)
SAMPLING = Sampling()


@dataclass
class Study:
    """What all methods share."""

    engine: Engine
    prompts: dict[str, list[TokenPrompt]]
    """By split."""

    def point(self, name: str, policy: Callable[[], Path]) -> Point:
        """A point of the curve, measured unless it was before.

        :param policy: trains what is measured; returns its folder.
        """
        path = FOLDER / "points" / f"{name}.json"
        if not path.is_file():
            point = measure(policy(), MODEL, self.engine, self.prompts["test"], SAMPLING)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(point))
        found = Point(**json.loads(path.read_text()))
        print(f"{name}: preference {_figure(found.preference)}, KL {_figure(found.kl)}", flush=True)
        return found

    def drawn(self, split: str, seed: int) -> list[list[Completion]]:
        """The base model's answers to the prompts of a split, the most that any method takes."""
        path = FOLDER / f"drawn-{split}-{seed}.json"
        if not path.is_file():
            self.engine.load_weights(MODEL)
            sampling = Sampling(seed=1 + seed)
            found = draw(self.engine, self.prompts[split], sampling, max(BEST_OF))
            write_json(path, [[asdict(completion) for completion in own] for own in found])
        return [[Completion(**completion) for completion in own] for own in json.loads(path.read_text())]


def run() -> list[Bar]:
    """Make the study, print its curves, and hold PPO against the best of four."""
    keep_freed_memory()
    FOLDER.mkdir(parents=True, exist_ok=True)
    check_settings()
    unpack_model()
    tokenizer = load_tokenizer(MODEL)
    prompts: dict[str, list[TokenPrompt]] = {}
    for line in (ROOT / "annotate" / "sample" / "prompts.jsonl").read_text().splitlines():
        row = json.loads(line)
        prompt = Prompt(row.get("id", f"p{sum(map(len, prompts.values()))}"), row["split"], row["messages"])
        prompts.setdefault(prompt.split, []).append(TokenPrompt(prompt, prompt_ids(tokenizer, prompt.messages)))
    engine = start_engine(EngineConfig(), MODEL, FOLDER / "vllm.log")
    try:
        engine.wait_until_ready()
        return curves(Study(engine, prompts))
    finally:
        engine.close()


def check_settings() -> None:
    """See that what is there was made with the settings of now.

    :raises SystemExit: when it was not.
    """
    path = FOLDER / "settings.json"
    now = {
        "ppo": asdict(replace(online_job("gae", 0), policy="")),
        "sft": asdict(SftJob(policy="")),
        "dpo": asdict(DpoJob(policy="")),
        "study": {"stops": STOPS, "learned_from": LEARNED_FROM, "betas": BETAS, "draws": [DRAWS, *BEST_OF]},
    }
    if not path.is_file():
        write_json(path, now)
    elif json.loads(path.read_text()) != json.loads(json.dumps(now)):
        raise SystemExit(f"error: {FOLDER} holds a study with other settings: delete it to begin anew.")


def curves(study: Study) -> list[Bar]:
    """Make all points, with the table so far behind each; what must be shown."""
    values = [[hidden_preference(completion.text) for completion in own] for own in study.drawn("test", 0)]
    sampler = {n: best_of(values, n) for n in BEST_OF}
    found: dict[tuple[str, str], list[Point]] = {}
    for method, setting, point in points(study):
        found.setdefault((method, setting), []).append(point)
        (FOLDER / "table.md").write_text(table(found, sampler))
    print(
        f"\nTemperature {SAMPLING.temperature}, at most {SAMPLING.max_tokens} tokens\n\n{table(found, sampler)}",
        flush=True,
    )
    last = found["PPO", f"{STOPS[-1]} updates"]
    return [beats(seed, point, sampler[4]) for seed, point in zip(SEEDS, last, strict=True)]


def points(study: Study) -> Iterator[tuple[str, str, Point]]:
    """All that is measured, as method, setting and point: first PPO, which the bars are of, then all else by seed."""
    yield "base model", "", study.point("base", lambda: MODEL)
    for seed in SEEDS:
        yield from of_online(study, "PPO", "gae", seed)
    for seed in SEEDS:
        for n in LEARNED_FROM:
            yield f"SFT on the best of {n}", "", of_sft(study, n, seed)
            for beta in BETAS:
                yield f"DPO on {n} answers a prompt", f"β {beta}", of_dpo(study, n, beta, seed)
        yield from of_online(study, "RLOO", "rloo", seed)


def table(found: dict[tuple[str, str], list[Point]], sampler: dict[int, list[float]]) -> str:
    """The points that are there, and beside them best-of-n as a sampler, whose answers are the base model's."""
    rows = []
    for n in BEST_OF[1:]:
        preference = _figure(defined(mean_interval(sampler[n])))
        rows.append([f"best of {n}, as a sampler", "", "", preference, f"≤ {best_of_n_kl_bound(n):.2f}", "", ""])
    rows += [_row(method, setting, own) for (method, setting), own in found.items()]
    header = ["method", "", "seeds", "preference", "KL, nats", "tokens", "ended"]
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *rows])


def teacher(study: Study) -> Teacher:
    """What every method of every seed learns from."""
    return Teacher.over([completion for own in study.drawn("train", SEEDS[0]) for completion in own])


def online_job(advantage: Advantage, seed: int) -> ImproveJob:
    """PPO or RLOO; all else is as by default."""
    return ImproveJob(
        policy=str(MODEL),
        reward_model="",
        updates=STOPS[-1],
        advantage=advantage,
        sampling=SAMPLING,
        seed=seed,
        kl_target=KL_TARGET,
    )


def of_online(study: Study, name: str, advantage: Advantage, seed: int) -> Iterator[tuple[str, str, Point]]:
    """PPO or RLOO with one seed, after each number of updates."""
    known = [FOLDER / "points" / f"{name.lower()}-{seed}-{updates}.json" for updates in STOPS]
    if all(path.is_file() for path in known):
        trained = iter([(updates, MODEL) for updates in STOPS])  # measured, so nobody opens it
    else:
        folder = FOLDER / f"{name.lower()}-{seed}"
        job = online_job(advantage, seed)
        trained = online(folder, job, study.engine, teacher(study), study.prompts["train"], STOPS)
    for updates, policy in trained:
        yield name, f"{updates} updates", study.point(f"{name.lower()}-{seed}-{updates}", partial(Path, policy))


def of_sft(study: Study, n: int, seed: int) -> Point:
    """SFT on the best of n answers to each train and dev prompt."""
    return study.point(
        f"sft-{n}-{seed}",
        lambda: imitate_best(FOLDER / f"sft-{n}-{seed}", practice(study, n, seed), seed),
    )


def of_dpo(study: Study, n: int, beta: float, seed: int) -> Point:
    """DPO on the order of n answers to each train and dev prompt."""
    return study.point(
        f"dpo-{n}-{beta}-{seed}",
        lambda: prefer(FOLDER / f"dpo-{n}-{beta}-{seed}", practice(study, n, seed), seed, beta),
    )


def practice(study: Study, n: int, seed: int) -> Practice:
    """The base model's first n answers to each train and dev prompt."""
    drawn = study.drawn("train", seed) + study.drawn("dev", seed)
    prompts = study.prompts["train"] + study.prompts["dev"]
    return Practice(MODEL, teacher(study), prompts, [own[:n] for own in drawn])


def beats(seed: int, point: Point, sampler: list[float]) -> Bar:
    """How much more of the preference PPO wins than the best of four, paired by prompt."""
    difference = defined(mean_interval(np.subtract(point.preferences, sampler)))
    print(f"PPO, seed {seed}, less the best of 4: {_figure(difference)}", flush=True)
    assert difference.low is not None
    return Bar(f"PPO less the best of 4, seed {seed}, lower limit", difference.low, "", at_least=0.0)


def _row(method: str, setting: str, points: list[Point]) -> list[str]:
    """A line of the table: with several seeds, their means, and the interval of the mean over seeds by prompt."""
    preference = defined(mean_interval(np.mean([point.preferences for point in points], axis=0)))
    kl = defined(mean_interval(np.mean([point.divergences for point in points], axis=0)))
    length = np.mean([point.lengths for point in points])
    ended = 100 * np.mean([point.end_rate for point in points])
    return [method, setting, str(len(points)), _figure(preference), _figure(kl), f"{length:.0f}", f"{ended:.0f} %"]


def _figure(found: Estimate) -> str:
    interval = found.interval
    return f"{found.value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
