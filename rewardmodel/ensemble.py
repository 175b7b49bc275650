"""Several reward models over one backbone, trained with different seeds: how sure is a score?

A further member is the set of weights in which it differs from the first. Where members were trained with
adapters on the upper blocks, the blocks below are the same in all and run once for all members.

Source: Coste et al. 2023, "Reward model ensembles help mitigate overoptimization".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rewardmodel.backbone import block_number, blocks_of
from rewardmodel.batching import Row

if TYPE_CHECKING:
    from rewardmodel.model import RewardModel


def mean_and_variance(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by the number of members) of each answer's scores.

    :param scores: [n, members] float.
    :returns: [n] float each.
    """
    return scores.mean(1), scores.var(1, correction=0)


def conservative(mean: Tensor, variance: Tensor, penalty: float) -> Tensor:
    """mean − λ·variance: a score that is lower where the members disagree.

    Source: Coste et al. 2023, equation 3 (uncertainty-weighted optimisation).

    :param mean: [n] float; ``variance`` likewise.
    :param penalty: λ, at least 0.
    """
    return mean - penalty * variance


def member_file(number: int) -> str:
    """Name of the file with a further member's weights, numbered from 1."""
    return f"member-{number}.safetensors"


def load_members(folder: Path, count: int, dtype: torch.dtype, device: torch.device) -> list[dict[str, Tensor]]:
    """Read the further members of a published reward model."""
    return [
        {name: weights.to(device, dtype) for name, weights in load_file(folder / member_file(number)).items()}
        for number in range(1, 1 + count)
    ]


def join(models: Sequence[RewardModel]) -> RewardModel:
    """Make an ensemble of models trained on one backbone.

    :returns: the first, with the others as further members.
    """
    first, *others = models
    own = first.backbone.state_dict()
    for other in others:
        weights = other.backbone.state_dict()
        first.members.append({name: weights[name] for name in own if not torch.equal(own[name], weights[name])})
        first.settings.member_means.append(other.settings.mean)
    return first


def forward_members(model: RewardModel, rows: Sequence[Row]) -> Tensor:
    """Raw scores of the answers in some rows by every member.

    :returns: [answers, members] float32, in the order of the rows and of the answers in them.
    """
    if not model.members:
        return model(rows)[:, None]
    count = model.backbone.config.get_text_config().num_hidden_layers
    name, blocks = blocks_of(model.trunk, count)
    lowest = _lowest_own_block(model)
    with _recorded(blocks, lowest) as entering:
        columns = [model(rows)]
    with _replayed(model.trunk, name, lowest, entering):
        for weights in model.members:
            own = {f"backbone.{key}": value for key, value in weights.items()}
            columns.append(torch.func.functional_call(model, own, (rows,)))
    return torch.stack(columns, 1)


def _lowest_own_block(model: RewardModel) -> int:
    """The first block in which some member differs; 0 where one differs in what comes before the blocks."""
    head = {
        f"{name}.{part}"
        for name, module in model.backbone.named_modules()
        if module is model.head
        for part in ("weight", "bias")
    }
    numbers = [block_number(key) for weights in model.members for key in weights if key not in head]
    return max(0, min(numbers, default=model.backbone.config.get_text_config().num_hidden_layers))


@contextlib.contextmanager
def _recorded(blocks: nn.ModuleList, lowest: int) -> Iterator[list[Any]]:
    """Collects what the block below `lowest` gives."""
    entering: list[Any] = []
    if lowest == 0:
        yield entering
        return
    hook = blocks[lowest - 1].register_forward_hook(lambda _block, _inputs, output: entering.append(output))
    try:
        yield entering
    finally:
        hook.remove()


class _Replay(nn.Module):
    """Stands in for a block whose output is known."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_inputs: Any, **_options: Any) -> Any:
        return self.output


@contextlib.contextmanager
def _replayed(trunk: nn.Module, name: str, lowest: int, entering: list[Any]) -> Iterator[None]:
    """The trunk with what the blocks below `lowest` gave in their place."""
    if lowest == 0:
        yield
        return
    parent = trunk.get_submodule(name.rpartition(".")[0])
    attribute = name.rpartition(".")[2]
    blocks = getattr(parent, attribute)
    setattr(parent, attribute, nn.ModuleList([*(_Replay(entering[0]) for _ in range(lowest)), *blocks[lowest:]]))
    try:
        yield
    finally:
        setattr(parent, attribute, blocks)
