"""Asking for the next generation: what each method needs, what its process reads, and that each really makes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from transformers import AutoModelForCausalLM

from annotate.models import Completion, Demonstration, Generation, Origin, Run
from annotate.services import Refused, control, files, imitation, inputs, space
from annotate.services.execute import execute
from annotate.services.files import run_folder
from annotate.services.improving import Wish
from annotate.services.methods import Method
from annotate.services.runs import launch_generate, launch_improve, launch_train_reward
from annotate.services.simulate import judge_everything
from annotate.services.snapshots import create_snapshot
from policy.methods import EXAMPLE_COLUMNS, EXAMPLES_FILE, OPTIONAL_EXAMPLE_COLUMNS
from rewardmodel.contract import RANKINGS_FILE
from tests.annotate.asking import improve
from tests.annotate.factory import World, collect_items, run, world
from tests.annotate.judged import ids_of, judged_world, member, ranks
from tests.annotate.judged import judge as judge_as
from tests.annotate.lineage import ended, judge, turn

pytestmark = pytest.mark.django_db

TINY = {"dtype": "float32", "device": "cpu", "threads": 1, "epochs": 1, "lora_rank": 4}


@pytest.fixture
def stage() -> World:
    return world(prompts=9, max_tokens=12)


def demonstrate(stage: World, split: str = "train", text: str = "Water it weekly.") -> Demonstration:
    prompt = stage.project.prompts.filter(split=split).earliest("pk")
    shown = Completion.objects.create(prompt=prompt, text=text, batch="b")
    return Demonstration.objects.create(project=stage.project, completion=shown, source="manual", batch="b")


def carried_out(asked: Run) -> Run:
    assert execute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "succeeded", asked.error + asked.log_tail
    return asked


@pytest.mark.parametrize("method", [Method.PPO, Method.BEST_OF_N])
def test_methods_that_draw_answers_need_a_reward_model(stage: World, method: Method) -> None:
    with pytest.raises(Refused, match="no reward model yet"):
        improve(stage, method)
    assert not Run.objects.exists()


@pytest.mark.parametrize("method", [Method.SFT, Method.DPO])
def test_methods_that_learn_from_a_snapshot_need_something_to_learn(stage: World, method: Method) -> None:
    with pytest.raises(Refused, match="There are no comparisons yet"):
        improve(stage, method)
    assert not Run.objects.exists()
    assert not stage.project.snapshots.exists()


def test_dpo_without_comparisons_is_refused_with_a_sentence(stage: World) -> None:
    demonstrate(stage)
    with pytest.raises(Refused, match="DPO learns from comparisons, and snapshot v1 has none"):
        improve(stage, Method.DPO)
    assert not stage.project.snapshots.exists()


def test_sft_without_edits_is_refused_with_a_sentence(stage: World) -> None:
    collect_items(stage)
    judge(stage)
    with pytest.raises(Refused, match="SFT imitates answers, and snapshot v1 holds none of the chosen kinds"):
        improve(stage, Method.SFT, sources=["edit"])
    with pytest.raises(Refused, match="Choose what is imitated"):
        improve(stage, Method.SFT, sources=[])


def test_answers_to_imitate_are_edits_preferred_answers_and_demonstrations_each_once() -> None:
    """Bob ranks a first and edits it: his edit stands for it. Dora ranks b first."""
    stage = judged_world()
    a, b, c, d = ids_of(stage)
    judge_as(stage, {**ranks([a, b, c, d], 1, 2, 3, 4), "edits": {str(a): "用手指摸摸土。"}})
    judge_as(stage, ranks([a, b, c, d], 2, 1, 3, 4), rater=member(stage, "dora"))
    demonstrate(stage)
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    rows = list(imitation.examples(snapshot, imitation.SOURCES))
    assert [(row["source"], row["response"]) for row in rows] == [
        ("edit", "用手指摸摸土。"),
        ("completion", Completion.objects.get(pk=b).text),
        ("demonstration", "Water it weekly."),
    ]
    assert [row["source"] for row in imitation.examples(snapshot, ["edit"])] == ["edit"]


def test_preferred_answers_that_were_cut_off_are_not_imitated() -> None:
    """Bob puts a and b first, of which b was cut off; Dora puts d first, which was cut off too, and ends it."""
    stage = judged_world()
    a, b, c, d = ids_of(stage)
    Completion.objects.filter(pk__in=[b, d]).update(finish_reason="length")
    judge_as(stage, ranks([a, b, c, d], 1, 1, 2, 3))
    judge_as(stage, {**ranks([a, b, c, d], 3, 2, 4, 1), "edits": {str(d): "Whole."}}, rater=member(stage, "dora"))
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    rows = list(imitation.examples(snapshot, imitation.SOURCES))
    told = [(row["source"], row["response"], row["cut_off"]) for row in rows]
    assert told == [
        ("completion", Completion.objects.get(pk=a).text, False),
        ("completion", Completion.objects.get(pk=b).text, True),
        ("edit", "Whole.", False),
    ]
    asked = improve(stage, Method.SFT, snapshot=snapshot)
    inputs.prepare(asked)
    written = pq.read_table(run_folder(asked) / EXAMPLES_FILE)
    assert written.schema.names == [*EXAMPLE_COLUMNS, *OPTIONAL_EXAMPLE_COLUMNS]
    assert written["cut_off"].to_pylist() == [False, True, False]


def test_cut_off_answers_are_known_in_a_restored_project_too() -> None:
    """Its rankings name rows by the numbers that they had where the project was made."""
    stage = judged_world()
    a, b, c, d = ids_of(stage)
    Completion.objects.filter(pk=a).update(finish_reason="length")
    Origin.objects.create(project=stage.project, archive_sha256="a" * 64, shifts={"completion": 1000}, users={})
    judge_as(stage, ranks([a, b, c, d], 1, 2, 3, 4))
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    assert [row["cut_off"] for row in imitation.examples(snapshot, ["completion"])] == [True]


def test_sft_on_nothing_but_cut_off_answers_is_refused_with_a_sentence() -> None:
    stage = judged_world()
    Completion.objects.update(finish_reason="length")
    judge_as(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    with pytest.raises(Refused, match=r"SFT imitates whole answers, and those .* in snapshot v1 were all cut off"):
        improve(stage, Method.SFT)
    demonstrate(stage)
    assert improve(stage, Method.SFT).selection["sources"] == list(imitation.SOURCES)


def test_the_lineage_says_method_snapshot_reward_model_and_parent(stage: World, tiny: Path) -> None:
    demonstrate(stage)
    collect_items(stage)
    judge_everything(project=stage.project, seed=1)
    made = carried_out(
        launch_improve(
            project=stage.project,
            actor=stage.alice,
            wish=Wish(method=Method.DPO, settings={**TINY, "rankings_per_step": 4}),
            kinds=["human", "simulated"],
            ring=False,
        )
    )
    generation = Generation.objects.get(run=made)
    assert generation.how_made["method"] == "DPO"
    assert generation.parent == stage.generation
    assert made.snapshot is not None
    assert made.snapshot.counts["pairs_train"] > 0
    assert pq.read_table(run_folder(made) / RANKINGS_FILE).num_rows > 0
    AutoModelForCausalLM.from_pretrained(files.located(generation.weights_path))
    metrics = [event.metrics for event in made.events.filter(stage="train")]
    assert all({"loss", "margin", "accuracy"} <= set(line) for line in metrics)


def test_sft_makes_a_generation_that_starts_from_the_base_model_where_asked(stage: World, tiny: Path) -> None:
    demonstrate(stage)
    demonstrate(stage, split="dev")
    wish = {"sources": ["demonstration"], "from_base": True, "settings": TINY}
    made = carried_out(improve(stage, Method.SFT, **wish))
    generation = Generation.objects.get(run=made)
    assert (generation.how_made["method"], made.selection["from_base"]) == ("SFT", True)
    assert made.job["policy"] == str(tiny)
    rows = pq.read_table(run_folder(made) / EXAMPLES_FILE).to_pylist()
    assert [(row["split"], row["source"]) for row in rows] == [("train", "demonstration"), ("dev", "demonstration")]
    assert made.job["temperature"] == stage.project.temperature
    assert json.loads((run_folder(made) / "spec.json").read_text())["kind"] == "sft"


def test_best_of_n_and_ppo_run_against_a_reward_model_and_candidates_know_how_they_were_chosen(
    stage: World, tiny: Path
) -> None:
    collect_items(stage)
    judge_everything(project=stage.project, seed=1)
    trained = launch_train_reward(
        project=stage.project, actor=None, kinds=["simulated"], settings={"epochs": 1, "threads": 1}, ring=False
    )
    carried_out(trained)
    best = carried_out(improve(stage, Method.BEST_OF_N, settings={**TINY, "n": 2}))
    generation = Generation.objects.get(run=best)
    assert generation.how_made["method"] == "Best-of-n"
    assert generation.how_made["metrics"]["kl_bound"] == pytest.approx(0.1931, abs=1e-4)
    assert best.reward_model == stage.project.reward_models.get()
    small = {"updates": 1, "minibatches": 1, "epochs": 1, "samples_per_prompt": 2, "prompts_per_update": 3}
    ppo = carried_out(improve(stage, Method.PPO, settings=small))
    assert Generation.objects.get(run=ppo).how_made["method"] == "PPO"
    dev = [str(pk) for pk in stage.project.prompts.filter(split="dev").values_list("pk", flat=True)]
    assert ppo.job["fixed_prompts"] == dev[:4]
    shown = ppo.events.filter(stage="ppo").get().metrics["examples"]
    assert list(shown) == ppo.job["fixed_prompts"]

    drawn = carried_out(launch_generate(project=stage.project, actor=None, samples=2, best_of=3, ring=False))
    kept = list(drawn.completions.all())
    assert len(kept) == 2 * 9
    for completion in kept:
        assert completion.sampling["best_of"] == 3
        assert completion.sampling["reward_model"] == 1
        signal = completion.signals.get(source="reward_model")
        assert completion.sampling["score"] == pytest.approx(signal.value)


def test_the_command_makes_a_generation_by_any_method(stage: World, tiny: Path, capsys: Any) -> None:
    demonstrate(stage)
    call_command(
        "improve",
        project=stage.project.slug,
        method="sft",
        source=["demonstration"],
        epochs=1,
        set=["lora_rank=4", "dtype=float32", "threads=1"],
    )
    assert "Generation 1, a candidate" in capsys.readouterr().out
    made = Run.objects.get()
    assert (made.job["lora_rank"], made.job["dtype"], made.job["epochs"]) == (4, "float32", 1)


def test_a_setting_that_the_method_does_not_have_is_refused_by_name(stage: World) -> None:
    demonstrate(stage)
    with pytest.raises(Refused, match="SftJob has no field 'beta'"):
        improve(stage, Method.SFT, settings={"beta": 0.1})


@pytest.mark.parametrize(
    ("method", "wish", "sentence"),
    [
        (Method.SFT, {"samples": 10}, "SFT takes no number of answers in all"),
        (Method.GRPO, {"from_base": True}, "GRPO starts from the parent"),
    ],
)
def test_what_a_method_has_no_use_for_is_refused(
    stage: World, method: Method, wish: dict[str, Any], sentence: str
) -> None:
    demonstrate(stage)
    with pytest.raises(Refused, match=sentence):
        improve(stage, method, **wish)


def test_the_command_refuses_a_reward_model_that_would_watch_itself(stage: World) -> None:
    turn(stage)
    with pytest.raises(CommandError, match="Reward model 1 cannot watch itself: choose another one"):
        call_command("improve", project=stage.project.slug, other_reward_model=1)


def test_tags_choose_the_prompts_that_are_practised_on(stage: World) -> None:
    turn(stage)
    tagged = stage.project.prompts.filter(split="train").earliest("pk")
    tagged.tags = ["zh"]
    tagged.save()
    asked = improve(stage, Method.PPO, tags=["zh"])
    assert asked.job["prompts_per_update"] == 1
    inputs.prepare(asked)
    rows = pq.read_table(run_folder(asked) / "data" / "prompts.parquet").to_pylist()
    assert [row["prompt_id"] for row in rows if row["split"] == "train"] == [str(tagged.pk)]
    Run.objects.filter(pk=asked.pk).delete()
    with pytest.raises(Refused, match="no training prompts with these tags"):
        improve(stage, Method.PPO, tags=["fr"])


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({}, (4e-4, 2e-4)),
        ({"lora_rank": 0}, (1e-5, 2e-4)),
        ({"lora_rank": 0, "learning_rate": 3e-6}, (3e-6, 2e-4)),
        ({"lora_rank": 0, "critic": "separate"}, (1e-5, 1e-5)),
    ],
)
def test_training_all_weights_has_a_learning_rate_of_its_own(
    stage: World, settings: dict[str, Any], rates: tuple[float, float]
) -> None:
    turn(stage)
    job = improve(stage, Method.PPO, settings=settings).job
    assert (job["learning_rate"], job["value_learning_rate"]) == rates


def test_a_number_of_answers_becomes_whole_updates(stage: World) -> None:
    turn(stage)
    per_update = stage.project.prompts.filter(split="train").count() * 4
    asked = improve(stage, Method.PPO, samples=2 * per_update + 1)
    assert asked.job["updates"] == 3


@pytest.mark.parametrize("budget", [{"samples": 8}, {"minutes": 5.0}, {"samples": 8, "minutes": 5.0}])
def test_updates_are_not_given_beside_another_budget(stage: World, budget: dict[str, float]) -> None:
    turn(stage)
    with pytest.raises(CommandError, match="give updates, or the others"):
        call_command("improve", project=stage.project.slug, updates=2, **budget)
    assert not Run.objects.filter(kind="improve", state=Run.State.QUEUED).exists()


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 512}, 512),
        ({"text_config": {"max_position_embeddings": 512}, "vision_config": {"max_position_embeddings": 64}}, 512),
        ({"text_config": {"n_positions": 512}}, 512),
        ({"n_embd": 64, "text_config": None}, None),
    ],
)
def test_the_context_of_a_model_is_found_whatever_its_kind_calls_it(
    tmp_path: Path, config: dict[str, Any], length: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert files.context_length(tmp_path) == length


def test_fine_tuning_takes_no_longer_rows_than_gpt2_reads(stage: World) -> None:
    demonstrate(stage)
    folder = files.check_model_folder(stage.generation.weights_path)
    before = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps({"n_positions": 256}))
    try:
        assert improve(stage, Method.SFT, sources=["demonstration"]).job["max_tokens"] == 256
    finally:
        (folder / "config.json").write_text(before)


def test_the_room_that_a_fine_tuning_needs_counts_the_best_weights_too(stage: World, tiny: Path) -> None:
    job = {"policy": str(tiny), "lora_rank": 0}
    assert space.needed_bytes("improve", {**job, "patience": 2}) - space.needed_bytes("improve", job) == (
        4 * 3 * space.parameters_of(tiny)
    )


def test_a_failed_training_is_settled_with_its_last_checkpoint_as_a_candidate(
    stage: World, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rising learning rate breaks the weights, the loss stops being a number, and what was saved before is taken."""
    demonstrate(stage)
    settings = {**TINY, "epochs": 40, "learning_rate": 1e18, "warmup": 1.0, "checkpoint_seconds": 0.0}
    made = improve(stage, Method.SFT, settings=settings)
    assert execute(made.pk)
    made.refresh_from_db()
    assert made.state == "failed"
    assert "The loss stopped being a number at step" in made.error
    assert files.resume_step(made) is not None
    call_command("resume_run", str(made.pk), settle=True)
    made.refresh_from_db()
    result = made.result
    assert result is not None
    assert result["metrics"]["settled"] is True
    assert Generation.objects.get(run=made).state == "candidate"


def test_what_saved_nothing_cannot_be_settled_and_resuming_trains_on(stage: World, tiny: Path) -> None:
    demonstrate(stage)
    job = {"policy": str(tiny), "lora_rank": 4}
    made = run(stage.project, "improve", selection={"method": "sft"}, job=job, **ended(Run.State.FAILED))
    with pytest.raises(Refused, match="saved nothing"):
        control.settle(run=made, actor=stage.alice)
    assert control.resume(run=made, actor=stage.alice, ring=False).selection["settle"] is False
