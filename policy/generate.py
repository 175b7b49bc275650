"""Answer prompts with one model or several: the jobs ``generate`` and ``evaluate``.

    python -m policy.generate --run-dir D [--attempt N]

Completions are published in the order of the prompts while the job runs: the first file holds one
prompt's answers and each later one up to twice as many prompts, so that raters can begin early.
``evaluate`` answers with one model after the other in one engine, and scores each model's answers
before it publishes them. With ``best_of`` n, each answer is the best of n tries by a reward model's
scores. A second attempt keeps what the first one published.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from policy.checks import check_same_text
from policy.commandline import run_from_command_line
from policy.contract import EvaluateJob, GenerateJob
from policy.data import Prompt, Shards, read_prompts
from policy.engines.base import Completion, Engine, Request, check_length, make_request, start_engine
from policy.methods import best_of, best_of_n_kl_bound
from policy.reporting import Reporter
from policy.scoring import Scoring
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.contract import read_spec
from rewardmodel.rundir import RunDir

Row = dict[str, Any]


def main(run: RunDir) -> None:
    """Run the job that a run directory describes."""
    job: GenerateJob | EvaluateJob = read_spec(run.path, {"generate": GenerateJob, "evaluate": EvaluateJob})
    prompts = read_prompts(run.path)
    if isinstance(job, GenerateJob):
        if job.reward_model is not None:
            check_same_text(job.model, job.reward_model)
        models, reward_models = [(job.generation, Path(job.model))], {"score": job.reward_model}
        answering = Answering(run, job, prompts, models, reward_models, job.prompts_per_shard)
        run.finish({"kind": "generate", **answering.run()})
    else:
        models = [(model["generation"], Path(model["path"])) for model in job.models]
        reward_models = {"score": job.reward_model, "other_score": job.other_reward_model}
        answering = Answering(run, job, prompts, models, reward_models, len(prompts))
        run.finish({"kind": "evaluate", **answering.run()})


class Answering:
    """Answers to every prompt by every model, published as they come."""

    def __init__(
        self,
        run: RunDir,
        job: GenerateJob | EvaluateJob,
        prompts: list[Prompt],
        models: list[tuple[int, Path]],
        reward_models: Mapping[str, str | None],
        prompts_per_shard: int,
    ) -> None:
        """Find what earlier attempts published and what is left to do.

        :param models: number and folder of each generation.
        :param reward_models: folders of the reward models that score the answers, by the column of the scores.
        :raises JobError: when a model cannot answer a prompt.
        """
        self._run = run
        self._reporter = Reporter(run)
        self._job = job
        self._messages = {prompt.prompt_id: prompt.messages for prompt in prompts}
        self._scoring = Scoring(run, reward_models, job.engine.device)
        self._tries = job.best_of if isinstance(job, GenerateJob) else 1
        self._prompts_per_shard = prompts_per_shard
        self._samples = range(job.first_sample, job.first_sample + job.samples)
        self._seconds = {"load": 0.0, "generate": 0.0}
        self._tokens = 0
        self._trouble = ""
        self._shards = Shards(run.path)
        for name in self._shards.names:
            run.progress(
                "generate", message="Kept from an earlier attempt", shard=name, sha256=self._shards.sha256(name)
            )
        published = self._shards.rows()
        self._done = len(published) * self._tries
        self._total = len(models) * len(prompts) * job.samples * self._tries
        answered = {(row["generation"], row["prompt_id"]) for row in published}
        self._waiting = [
            (generation, folder, self._requests(generation, folder, left))
            for generation, folder in models
            if (left := [p for p in prompts if (generation, p.prompt_id) not in answered])
        ]

    def run(self) -> dict[str, Any]:
        """Answer what is left, model after model.

        :returns: the content of ``result.json`` but for its kind.
        """
        engine: Engine | None = None
        in_engine = Path()
        try:
            for generation, folder, requests in self._waiting:
                self._run.stop_if_asked()
                if engine is not None and not _same_architecture(in_engine, folder):
                    engine.close()
                    engine = None
                if engine is None:
                    engine = self._start(folder)
                else:
                    engine.load_weights(folder)
                in_engine = folder
                self._answer_with(engine, generation, requests)
        finally:
            if engine is not None:
                engine.close()
        return self._result()

    def _requests(self, generation: int, model: Path, prompts: Sequence[Prompt]) -> dict[str, list[Request]]:
        """The requests of all samples of each prompt."""
        tokenizer = load_tokenizer(model)
        requests = {}
        for prompt in prompts:
            ids = prompt_ids(tokenizer, prompt.messages)
            check_length(self._job.engine, model, len(ids), self._job.sampling.max_tokens, prompt.prompt_id)
            requests[prompt.prompt_id] = [
                make_request(self._job.sampling, prompt.messages, ids, generation, prompt.prompt_id, sample, *more)
                for sample in self._samples
                for more in ([(number,) for number in range(self._tries)] if self._tries > 1 else [()])
            ]
        return requests

    def _start(self, model: Path) -> Engine:
        began = time.monotonic()
        config = self._job.engine
        engine = start_engine(config, model, self._run.attempt_path / f"{config.name}.log")

        def report(trouble: str = "") -> None:
            self._run.stop_if_asked()
            message = f"Loading {model.name} into {config.name}, {_since(began):.0f} s"
            self._run.progress("load", message=trouble or message)

        report()
        engine.wait_until_ready(report)
        self._seconds["load"] += _since(began)
        return engine

    def _answer_with(self, engine: Engine, generation: int, requests: dict[str, list[Request]]) -> None:
        """Answer prompts with the model in the engine, score the answers if asked, and publish them."""
        limit = self._prompts_per_shard
        sizes = _ramp(limit) if isinstance(self._job, GenerateJob) else repeat(limit)
        size = next(sizes)
        samples = [sample for sample in self._samples for _try in range(self._tries)]
        unpublished: list[Row] = []
        for prompt_id, completions in self._answer(engine, requests):
            unpublished += [
                _row(engine, generation, prompt_id, sample, request.seed, completion)
                for sample, request, completion in zip(samples, requests[prompt_id], completions, strict=True)
            ]
            if len(unpublished) >= size * len(samples):
                self._publish(unpublished)
                unpublished = []
                size = next(sizes)
        if unpublished:
            self._publish(unpublished)

    def _answer(self, engine: Engine, requests: dict[str, list[Request]]) -> Iterator[tuple[str, list[Completion]]]:
        """Yield each prompt's completions, in the prompts' order, once they are whole."""
        began = time.monotonic()
        tokens = 0
        whole: dict[int, Completion] = {}
        prompt_order = list(requests)
        next_prompt = 0
        per_prompt = len(self._samples) * self._tries
        scored = self._scoring.seconds["score"]
        flat = [request for of_prompt in requests.values() for request in of_prompt]
        for index, completion in engine.stream(flat, self._while_waiting):
            whole[index] = completion
            tokens += completion.token_count
            self._done += 1
            speed = round(tokens / _since(began), 1)
            self._reporter.step("generate", self._done, self._total, tokens_per_second=speed)
            while next_prompt < len(prompt_order):
                indices = range(next_prompt * per_prompt, (next_prompt + 1) * per_prompt)
                if not all(i in whole for i in indices):
                    break
                yield prompt_order[next_prompt], [whole.pop(i) for i in indices]
                next_prompt += 1
        between = self._scoring.seconds["score"] - scored  # of two answers, while they were published
        self._seconds["generate"] += _since(began) - between
        self._tokens += tokens

    def _while_waiting(self, trouble: str) -> None:
        self._run.stop_if_asked()
        if trouble != self._trouble:
            self._run.progress("generate", self._done, self._total, message=trouble)
            self._trouble = trouble

    def _publish(self, rows: list[Row]) -> None:
        """Score answers where that is asked for, keep the best tries, and publish them."""
        self._scoring.fill(rows, self._messages)
        if self._tries > 1:
            rows = [rows[place] for place in best_of([row["score"] for row in rows], self._tries)]
        shard = self._shards.publish(rows)
        self._run.progress("generate", self._done, self._total, shard=shard, sha256=self._shards.sha256(shard))

    def _result(self) -> dict[str, Any]:
        rows = self._shards.rows()
        generate = self._seconds["generate"]
        return {
            "completions": len(rows),
            "shards": {name: self._shards.sha256(name) for name in self._shards.names},
            "metrics": {
                "generations": _summaries(rows),
                "tokens_per_second": round(self._tokens / generate, 1) if generate else None,
                **({"best_of": self._tries, "kl_bound": best_of_n_kl_bound(self._tries)} if self._tries > 1 else {}),
            },
            "seconds": {
                "load": round(self._seconds["load"] + self._scoring.seconds["load"], 2),
                "generate": round(generate, 2),
                "score": round(self._scoring.seconds["score"], 2),
            },
            "versions": {row["engine"]: row["engine_version"] for row in rows},
        }


def _row(engine: Engine, generation: int, prompt_id: str, sample: int, seed: int, completion: Completion) -> Row:
    return {
        "generation": generation,
        "prompt_id": prompt_id,
        "sample": sample,
        "text": completion.text,
        "token_count": completion.token_count,
        "finish_reason": completion.finish_reason,
        "sum_logprob": sum(completion.logprobs) if engine.capabilities.logprobs else None,
        "seed": seed,
        "engine": engine.name,
        "engine_version": engine.version,
        "score": None,
        "other_score": None,
    }


def _ramp(limit: int) -> Iterator[int]:
    """1, 2, 4, … but never above `limit`."""
    size = 1
    while True:
        yield min(size, limit)
        size *= 2


def _summaries(rows: list[Row]) -> list[dict[str, Any]]:
    """Means over each generation's completions."""
    summaries = []
    for generation in sorted({row["generation"] for row in rows}):
        own = [row for row in rows if row["generation"] == generation]
        scores = [row["score"] for row in own if row["score"] is not None]
        logprobs = [row["sum_logprob"] for row in own if row["sum_logprob"] is not None]
        tokens = sum(row["token_count"] for row in own)
        summaries.append(
            {
                "generation": generation,
                "completions": len(own),
                "score": sum(scores) / len(scores) if scores else None,
                "tokens": tokens / len(own),
                "end_rate": sum(row["finish_reason"] == "stop" for row in own) / len(own),
                "logprob_per_token": sum(logprobs) / tokens if len(logprobs) == len(own) and tokens else None,
            }
        )
    return summaries


def _same_architecture(first: Path, second: Path) -> bool:
    """Whether one model's weights can take the place of the other's."""

    def shape(folder: Path) -> dict[str, Any]:
        config = json.loads((folder / "config.json").read_text())
        incidental = ("_name_or_path", "dtype", "torch_dtype", "transformers_version")
        return {key: value for key, value in config.items() if key not in incidental}

    return shape(first) == shape(second)


def _since(began: float) -> float:
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.generate", main))
