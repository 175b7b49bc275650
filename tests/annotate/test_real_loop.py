"""The loop on the model that Hone comes with, by vLLM: what tiny models are too quick and too random to show."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.conf import settings

from annotate.models import Completion, Prompt
from annotate.services.loop import Loop
from annotate.services.projects import default_model
from annotate.services.sample import create_sample_project
from annotate.stats.style import count_words

KEPT = {"train": 8, "dev": 2, "test": 4}
"""Prompts of the sample, by split."""
SMALL = {
    "train_reward": {"epochs": 1},
    "improve": {"updates": 2, "prompts_per_update": 8, "samples_per_prompt": 4, "minibatches": 2, "epochs": 1},
}


@pytest.fixture
def real_model() -> Iterator[None]:
    """The default model, unpacked where projects look for it."""
    folder = default_model()
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "policy.defaultmodel", str(folder)], cwd=settings.BASE_DIR, check=True)
    yield
    shutil.rmtree(folder)


@pytest.mark.django_db(transaction=True)
def test_the_real_model_goes_round_the_loop_with_vllm(real_model: None) -> None:
    assert settings.HONE_ENGINE == "vllm"
    project = create_sample_project(slug="real", actor=None)
    for split, count in KEPT.items():
        kept = project.prompts.filter(split=split).order_by("pk")[:count].values_list("pk", flat=True)
        Prompt.objects.filter(split=split).exclude(pk__in=list(kept)).delete()

    loop = Loop(project, seed=1, say=lambda line: None, settings=SMALL)
    loop.go_round()
    report = loop.report()

    answers = Completion.objects.filter(run__isnull=False)
    assert answers.count() == report["completions"] == 14 * 8 + 4 * 8 * 2
    assert set(answers.values_list("engine", flat=True)) == {"vllm"}
    wordy = sum(count_words(text) >= 5 for text in answers.values_list("text", flat=True))
    assert wordy >= 0.9 * report["completions"]
    updates = project.generations.get(number=1).how_made["metrics"]["updates"]
    assert updates[0]["kl"] == pytest.approx(0, abs=0.05)  # nats an answer: the policy is its parent still
    assert updates[1]["kl"] != updates[0]["kl"]
    # Both compute in bfloat16; sampling by other weights or at another temperature gives 0.1 and more.
    assert all(update["mismatch_kl"] < 0.02 for update in updates)
    assert report["win_rate"][0]["n"] == 4
    assert report["reward_model"]["test_pairs"] > 0
