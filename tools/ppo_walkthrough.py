"""Writes the numbers of docs/ppo.md: one small PPO update of the default model, step by step.

    .venv/bin/python -m tools.ppo_walkthrough

Two updates are made, on two prompts with two answers each, in float32 with the engine transformers, so that the same
command gives the same numbers on the same kind of machine; the second is shown, because before the first policy and
parent are one. Each block of the page between ``<!-- begin: NAME -->`` and ``<!-- end -->`` is replaced.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from policy import objectives, ppo
from policy.actor import Actor, actor_of
from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.data import Prompt
from policy.engines.base import start_engine
from policy.reporting import Reporter
from policy.rollout import Rollouts, TokenPrompt, draw, score
from policy.state import new_state
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.rundir import open_run
from tools.model import MODEL, unpack_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ppo.md"
QUESTIONS = ("Say hello to a new colleague.", "Name a fruit.")
WORDS = 6
JOB = ImproveJob(
    policy=str(MODEL),
    reward_model="",
    updates=2,
    prompts_per_update=2,
    samples_per_prompt=2,
    sampling=Sampling(temperature=0.7, max_tokens=10),
    epochs=2,
    minibatches=1,
    dtype="float32",
    engine=EngineConfig(name="transformers", dtype="float32"),
)
FOLLOWED = 0
"""The answer whose tokens are shown."""


def brevity(conversations: Sequence[tuple[Any, str]]) -> torch.Tensor:
    """1 for an answer of six words; half a point less for each word more or less."""
    return torch.tensor([1 - 0.5 * abs(len(text.split()) - WORDS) for _chat, text in conversations])


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers get three decimals."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".replace("-0.000", "0.000")
    return str(value).replace("\n", "⏎").replace("|", "\\|")


def walk() -> dict[str, str]:
    """Make the updates; the page's blocks by name."""
    torch.set_num_threads(2)
    unpack_model()
    tokenizer = load_tokenizer(MODEL)
    chats = [Prompt(f"p{n}", "train", [{"role": "user", "content": text}]) for n, text in enumerate(QUESTIONS)]
    prompts = [TokenPrompt(chat, prompt_ids(tokenizer, chat.messages)) for chat in chats]
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder), 1) as run:
        engine = start_engine(JOB.engine, MODEL, run.attempt_path / "engine.log")
        actor, reporter = actor_of(JOB, torch.float32, cpu), Reporter(run)
        state = new_state(JOB, actor)
        parent = ppo.look(JOB, actor, engine, brevity, prompts, (), state, reporter)
        state.history.append(ppo.learn(JOB, actor, parent, state, reporter))
        ppo.hand_weights_to_sampler(run, actor, engine, 1)
        rollouts, _examples = draw(JOB, engine, actor, 1, prompts, (), reporter)
        scores = score(brevity, rollouts, 1, reporter)
        before = observe(actor, rollouts)
        experience, metrics = ppo.evaluate(JOB, actor, rollouts, scores, state, reporter)
        beta = state.beta
        trained = ppo.train(JOB, actor, experience, rollouts, state, reporter)
        after = observe(actor, rollouts)
    penalised = scores - JOB.no_end_penalty * ~rollouts.ended
    relative = objectives.leave_one_out(penalised.view(-1, JOB.samples_per_prompt)).flatten()
    rewards = objectives.token_rewards(relative, before["logprobs"], before["reference"], rollouts.mask, beta)
    plain, _returns = objectives.gae(rewards, before["values"], rollouts.mask, JOB.gamma, JOB.gae_lambda)
    texts = [text for _chat, text in rollouts.conversations]
    answers = [
        (number, QUESTIONS[number // JOB.samples_per_prompt], text, int(rollouts.mask[number].sum()))
        for number, text in enumerate(texts)
    ]
    length = answers[FOLLOWED][3]
    row = next(row for row in rollouts.rows if FOLLOWED in row.places)
    ids = row.responses[row.places.index(FOLLOWED)]
    words = [f"`{tokenizer.decode([token])}`" for token in ids]

    def column(values: torch.Tensor) -> list[float]:
        return values[FOLLOWED, :length].tolist()

    new_beta = objectives.adapt_beta(beta, metrics["kl"], JOB.kl_target, 4, JOB.kl_horizon_updates * 4)
    return {
        "answers": table(("answer", "to", "text", "tokens"), answers),
        "scores": table(
            ("answer", "score", "ended", "after the penalty", "relative to the other"),
            zip(range(4), scores.tolist(), rollouts.ended.tolist(), penalised.tolist(), relative.tolist(), strict=True),
        ),
        "tokens": table(
            (
                "token",
                "log π sampler",
                "log π old",
                "log π parent",
                "reward",
                "value",
                "advantage",
                "whitened",
                "weight",
            ),
            zip(
                words,
                column(rollouts.sampler_logprobs),
                column(before["logprobs"]),
                column(before["reference"]),
                column(rewards),
                column(before["values"]),
                column(plain),
                column(experience.advantages),
                column(experience.weights),
                strict=True,
            ),
        ),
        "ratios": table(
            ("token", "whitened advantage", "log π old", "log π new", "ratio", "clipped to"),
            [
                (word, advantage, old, new, (ratio := float(torch.tensor(new - old).exp())), min(max(ratio, 0.8), 1.2))
                for word, advantage, old, new in zip(
                    words,
                    column(experience.advantages),
                    column(before["logprobs"]),
                    column(after["logprobs"]),
                    strict=True,
                )
            ],
        ),
        "update": table(
            ("figure", "value"),
            [
                *((name, metrics[name]) for name in ("reward", "kl", "entropy", "mismatch_kl", "length", "end_rate")),
                *((name, trained[name]) for name in ("policy_loss", "value_loss", "clip_fraction", "gradient_norm")),
                ("optimiser_steps", trained["optimiser_steps"]),
                ("largest distance of a ratio from 1 at the first step", trained["first_ratio_error"]),
                ("β", f"{beta:.5f}"),
                ("β of the next update", f"{new_beta:.5f}"),
            ],
        ),
    }


def observe(actor: Actor, rollouts: Rollouts) -> dict[str, torch.Tensor]:
    """What the networks say of the answers, in their order, [n, T] each."""
    found = vars(actor.observe(rollouts.rows, actor.below(rollouts.rows), rollouts.mask.shape[1], 0.7))
    order = torch.tensor([place for row in rollouts.rows for place in row.places]).argsort()
    return {name: tensor[order] for name, tensor in found.items()}


def main() -> None:
    """Replace the page's blocks."""
    page = PAGE.read_text()
    for name, block in walk().items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end -->)"
        page, found = re.subn(pattern, lambda match: f"{match[1]}\n{block}\n\n{match[2]}", page, flags=re.DOTALL)  # noqa: B023
        assert found == 1, name
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
