"""How much answers repeat themselves, a reward model that only watches, and a run that ends with what it has saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.train import main
from policy.watch import repetition
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import JobError
from rewardmodel.model import RewardModel, Settings, new_reward_model
from rewardmodel.rundir import RunDir, Stopped, open_run
from tests.policy.conftest import progress_of, write_run


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("water it when the soil is dry", 0.0),
        # 8 words, 5 runs of four, of which the last equals the first
        ("water it every day, Water it every day", 1 / 5),
        # 6 characters, 3 runs of four: 好好好好 three times
        ("好好好好好好", 2 / 3),
        # words and characters alike: 5 runs, the last equals the first
        ("浇 water 10 次，浇 Water 10 次", 1 / 5),
    ],
)
def test_the_share_of_runs_of_four_words_that_occurred_before_by_hand(text: str, share: float) -> None:
    assert repetition([text]) == pytest.approx(share)


def test_it_is_the_mean_over_the_answers() -> None:
    assert repetition(["好好好好好好", "fine"]) == pytest.approx(1 / 3)
    assert repetition([]) == 0.0


@pytest.fixture
def job(tiny_model: Path, tmp_path: Path) -> ImproveJob:
    """PPO of two updates with a second reward model."""
    folders = [tmp_path / name for name in ("reward", "second")]
    for seed, folder in enumerate(folders):
        settings = Settings(base_model=str(tiny_model), loss="logistic", max_tokens=64)
        tokenizer, device = load_tokenizer(tiny_model), torch.device("cpu")
        new_reward_model(tokenizer, settings, dtype=torch.float32, device=device, seed=seed).save(folder)
    return ImproveJob(
        policy=str(tiny_model),
        reward_model=str(folders[0]),
        other_reward_model=str(folders[1]),
        updates=2,
        prompts_per_update=2,
        samples_per_prompt=2,
        minibatches=1,
        epochs=1,
        sampling=Sampling(max_tokens=8),
        dtype="float32",
        engine=EngineConfig(name="transformers", dtype="float32"),
    )


PROMPTS = [(f"p{n}", "train", f"Say {n}") for n in range(4)]


def test_a_other_reward_model_scores_what_the_first_one_scores_and_trains_nothing(
    job: ImproveJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: dict[str, list[Tensor]] = {}
    score = RewardModel.score

    def remember(self: RewardModel, conversations: Any) -> Tensor:
        scores = score(self, conversations)
        scored.setdefault(str(self.backbone.name_or_path), []).append(scores)
        return scores

    monkeypatch.setattr(RewardModel, "score", remember)
    watched, alone = (write_run(tmp_path / name, "improve", j, PROMPTS) for name, j in _with_and_without(job))
    results = []
    for folder in (watched, alone):
        with open_run(folder, 1) as run:
            main(run)
        results.append(json.loads((folder / "result.json").read_text()))
    assert results[0]["manifest_sha256"] == results[1]["manifest_sha256"]
    lines = [line for line in progress_of(watched) if line["stage"] == "watch"]
    assert [(line["done"], line["total"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]  # the result's answers, too
    second = torch.cat(scored[str(job.other_reward_model)]).view(3, 4).mean(1)
    assert [line["metrics"]["other_reward"] for line in lines] == pytest.approx(second.tolist(), abs=1e-6)
    assert all(0 <= line["metrics"]["repetition"] <= 1 for line in lines)
    assert all("other_reward" not in line["metrics"] for line in progress_of(alone) if line["stage"] == "watch")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_watching_model_that_gives_no_numbers_ends_no_run(
    job: ImproveJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: float
) -> None:
    """Of the second look's four answers one has no number."""
    real, looks = RewardModel.score, [0]

    def broken(self: RewardModel, conversations: Any) -> Tensor:
        scores = real(self, conversations)
        if str(self.backbone.name_or_path) == job.other_reward_model:
            looks[0] += 1
            if looks[0] == 2:
                scores[1] = score
        return scores

    monkeypatch.setattr(RewardModel, "score", broken)
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    with open_run(run_dir, 1) as run:
        main(run)
    told = [line["metrics"] for line in progress_of(run_dir) if line["stage"] == "watch"]
    assert [set(metrics) for metrics in told] == [
        {"repetition", "other_reward"},
        {"repetition", "other_reward_missing"},
        {"repetition", "other_reward"},
    ]
    assert told[1]["other_reward_missing"] == 1


def _with_and_without(job: ImproveJob) -> list[tuple[str, ImproveJob]]:
    return [("watched", job), ("alone", replace(job, other_reward_model=None))]


def test_a_run_of_ppo_is_settled_with_its_last_checkpoint(job: ImproveJob, tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", "improve", replace(job, updates=50), PROMPTS)
    (run_dir / "settle").touch()
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match="no checkpoint that could be taken"):
        main(run)
    (run_dir / "settle").unlink()
    with open_run(run_dir, 2) as run, pytest.raises(Stopped):
        main(_stopping_after_two_updates(run))
    (run_dir / "stop").unlink()
    (run_dir / "settle").touch()
    # What made it fail, such as a device or a reward model that is gone, is not needed any more.
    gone = {"device": "cuda:7", "reward_model": str(tmp_path / "gone"), "other_reward_model": str(tmp_path / "gone")}
    spec = json.loads((run_dir / "spec.json").read_text())
    (run_dir / "spec.json").write_text(json.dumps({**spec, "job": {**spec["job"], **gone}}))
    with open_run(run_dir, 3) as run:
        main(run)
    result = json.loads((run_dir / "result.json").read_text())
    assert [update["update"] for update in result["metrics"]["updates"]] == [1]
    assert (result["metrics"]["ended_by"], result["metrics"]["settled"]) == ("settled", True)
    settled = AutoModelForCausalLM.from_pretrained(run_dir / result["model"])
    straight_dir = write_run(tmp_path / "straight", "improve", replace(job, updates=1), PROMPTS)
    with open_run(straight_dir, 1) as run:
        main(run)
    straight = json.loads((straight_dir / "result.json").read_text())
    assert straight["metrics"]["final"] == result["metrics"]["final"]
    published = AutoModelForCausalLM.from_pretrained(straight_dir / straight["model"])
    for mine, theirs in zip(settled.parameters(), published.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def _stopping_after_two_updates(run: RunDir) -> RunDir:
    write = run.progress

    def progress(stage: str, done: float = 0, *arguments: Any, **metrics: Any) -> None:
        write(stage, done, *arguments, **metrics)
        if stage == "ppo" and done == 2:
            (run.path / "stop").touch()

    run.progress = progress  # type: ignore[method-assign]
    return run


def test_a_other_reward_model_on_another_template_is_refused(job: ImproveJob, tmp_path: Path) -> None:
    template = Path(str(job.other_reward_model)) / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match=r"second reads text with another tokenizer"):
        main(run)
