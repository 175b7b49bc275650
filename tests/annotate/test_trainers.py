"""Each of TRL's trainers takes a real step on the export that is for it, with a tiny random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from annotate.models import Completion
from annotate.services.export import export
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import collect_items, world
from tests.annotate.test_rows import ids_of, judge, pair, ranks
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db

FORMS = {
    RewardTrainer: ("trl-preference", "trl-preference-plain", "trl-implicit", "trl-implicit-plain"),
    DPOTrainer: ("trl-preference", "trl-preference-plain", "trl-implicit", "trl-implicit-plain"),
    KTOTrainer: ("trl-unpaired", "trl-unpaired-plain"),
    SFTTrainer: ("prompt-completion", "prompt-completion-plain"),
}
CONFIGS = {RewardTrainer: RewardConfig, DPOTrainer: DPOConfig, KTOTrainer: KTOConfig, SFTTrainer: SFTConfig}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("trl") / "model", max_position_embeddings=1024)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An export whose pairs come from a ranking, an edit and an import; the edited answer is Chinese."""
    stage = world(prompts=3)
    collect_items(stage)
    first, *_rest = ids_of(stage)
    Completion.objects.filter(pk=first).update(text="你好，世界。")
    judge(stage, {**ranks(ids_of(stage), 1, 2, 2, 3), "edits": {str(first): "你好，世界！"}})
    pair(stage, "imported")
    export(create_snapshot(project=stage.project, actor=None), tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(("trainer", "form"), [(trainer, form) for trainer, forms in FORMS.items() for form in forms])
def test_a_trainer_takes_a_step_on_the_export_that_is_for_it(
    exported: Path, model: Path, tmp_path: Path, trainer: Any, form: str
) -> None:
    rows = datasets.load_dataset(str(exported), form, split="train", cache_dir=str(tmp_path / "cache"))
    head = AutoModelForSequenceClassification if trainer is RewardTrainer else AutoModelForCausalLM
    options = {"num_labels": 1} if trainer is RewardTrainer else {}
    learner = head.from_pretrained(model, dtype=torch.float32, **options)
    before = {name: weight.detach().clone() for name, weight in learner.named_parameters()}
    config = CONFIGS[trainer](
        output_dir=str(tmp_path / "run"),
        max_steps=1,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = trainer(model=learner, args=config, train_dataset=rows, processing_class=tokenizer)
    outcome = trained.train()
    assert outcome.global_step == 1
    assert torch.isfinite(torch.tensor(outcome.training_loss))
    moved = [name for name, weight in trained.model.named_parameters() if not torch.equal(weight, before[name])]
    assert moved
