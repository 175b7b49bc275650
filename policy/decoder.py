"""A causal language model that reads prompts with their answers, and says how probable each token of the answers is.

Answers to one prompt lie in one row behind it and all rows end to end (:mod:`rewardmodel.attention`), so a prompt is
read once for its answers. A model for which that does not give what it gives to each answer alone, which is tried when
it is loaded, reads every answer in a row of its own. Only positions that predict an answer's token go through the
vocabulary head.

Blocks below the lowest one that learns never change. What leaves them is computed once for each row
(:meth:`Decoder.below`) and serves every later pass. Dropout is off throughout: ratios compare two passes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from policy.modules import LowRankAdapter, TokenLogProbs, chosen_logits, scan_vocabulary
from rewardmodel import attention
from rewardmodel.backbone import block_number, blocks_of, may_share_rows, takes_positions
from rewardmodel.batching import Flat, Row, collate, flatten, pack, split_by_tokens, split_evenly
from rewardmodel.chat import Answer, load_tokenizer
from rewardmodel.contract import JobError


class Decoder(nn.Module):
    """A causal language model over rows; see the module's description. Frozen until told what learns."""

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        """Load a model folder.

        :param dtype: of the weights.
        :raises JobError: when the model cannot be loaded, holds a weight that is no number, or computes answers in a
            way that cannot be followed here.
        """
        super().__init__()
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.model = load_causal(folder, torch.float32).requires_grad_(False)
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter.sum()) and not torch.isfinite(parameter).all():
                raise JobError(f"The weights {name} of {folder} hold values that are no numbers.")
        name, blocks = blocks_of(self._trunk, self.model.config.get_text_config().num_hidden_layers)
        self._list_name, self._blocks = name, list(blocks)
        self._first = 0
        """Number of the lowest block that is computed anew in every pass."""
        self._adapters: dict[str, LowRankAdapter] = {}
        self.adapters = nn.ModuleList()
        self.shares_rows = self._can_share_rows()
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)  # not .to() of the module: rotary frequencies stay float32
        self.model.to(device)

    @property
    def _trunk(self) -> Any:
        return self.model.base_model

    @property
    def _head(self) -> Any:
        return self.model.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self._head.weight.device

    @property
    def hidden_size(self) -> int:
        """Numbers in a state."""
        return int(self._head.weight.shape[1])

    def add_adapters(self, rank: int, alpha: float, share_of_blocks: float, seed: int) -> None:
        """Let low-rank adapters learn on the upper blocks; fresh ones change nothing yet.

        :param share_of_blocks: counted from the top, in (0, 1].
        :raises JobError: when there are no linear layers to put them on.
        """
        generator = torch.Generator().manual_seed(seed)
        lowest = min(len(self._blocks) - 1, round(len(self._blocks) * (1 - share_of_blocks)))
        for name, part in list(self._trunk.named_modules()):
            if isinstance(part, nn.Linear | Conv1D) and block_number(name) >= lowest:
                self._adapters[name] = LowRankAdapter(part, rank, alpha, generator)
        if not self._adapters:
            raise JobError(f"The model in {self.folder} has no linear layers to put adapters on.")
        self.adapters.extend(self._adapters.values())
        self._first = lowest if self.shares_rows else 0

    @contextlib.contextmanager
    def without_adapters(self) -> Iterator[None]:
        """The weights as they were loaded."""
        for adapter in self._adapters.values():
            adapter.enabled = False
        try:
            yield
        finally:
            for adapter in self._adapters.values():
                adapter.enabled = True

    def pack(self, answers: Sequence[Answer], max_row_tokens: int) -> list[Row]:
        """Lay answers into the rows that this model takes; see :func:`rewardmodel.batching.pack`."""
        return pack(answers, self.shares_rows, max_row_tokens)

    def split(self, rows: Sequence[Row], budget: int) -> list[list[int]]:
        """Group rows, by number, so that each group is one pass within a budget of tokens, padding included."""
        sizes = [row.tokens for row in rows]
        return split_evenly(sizes, budget) if self.shares_rows else split_by_tokens(sizes, budget)

    @torch.no_grad()
    def below(self, rows: Sequence[Row]) -> list[Tensor] | None:
        """What enters the lowest block that learns, for each row [tokens, hidden size]; None where all learn."""
        if self._first == 0:
            return None
        flat = flatten(rows, attention.SHORT_ROW, self.device)
        left: list[Tensor] = []
        hook = self._blocks[self._first - 1].register_forward_hook(lambda block, inputs, output: left.append(output))
        try:
            self._read(flat, 0, self._first, input_ids=flat.input_ids)
        finally:
            hook.remove()
        states = (left[0] if isinstance(left[0], Tensor) else left[0][0])[0]
        common, *own = states.split([flat.common, *(sum(row) for row in flat.sizes)])
        return [torch.cat([common, part]) for part in own]

    def states(self, rows: Sequence[Row], below: Sequence[Tensor] | None = None) -> Tensor:
        """The state before each token of the answers, [tokens, hidden size], in the order of :func:`answer_tokens`.

        :param below: of each row what :meth:`below` gave.
        """
        if not self.shares_rows:
            batch = collate(rows, self.tokenizer.eos_token_id, self.device)
            positions = {"position_ids": batch.position_ids} if takes_positions(self.model) else {}
            mask = batch.segments.ge(0).long()
            read = self._trunk(input_ids=batch.input_ids, attention_mask=mask, use_cache=False, **positions)
            states = read.last_hidden_state
            sizes = [(len(row.prompt), len(row.responses[0])) for row in rows]
            return torch.cat([states[i, p - 1 : p + a - 1] for i, (p, a) in enumerate(sizes)])
        flat = flatten(rows, attention.SHORT_ROW, self.device)
        if below is None:
            read = self._read(flat, 0, len(self._blocks), input_ids=flat.input_ids)
        else:
            entering = torch.cat([below[0][: flat.common], *(part[flat.common :] for part in below)])[None]
            # Through a hook, because some models add positions to what they are given, or scale it.
            hook = self._blocks[self._first].register_forward_pre_hook(lambda block, inputs: (entering, *inputs[1:]))
            try:
                read = self._read(flat, self._first, len(self._blocks), inputs_embeds=entering)
            finally:
                hook.remove()
        return read.last_hidden_state[0, _places_before(flat)]

    def _read(self, flat: Flat, first: int, end: int, **inputs: Tensor) -> Any:
        """The trunk's output with some of its blocks over rows that lie end to end."""
        parent = self._trunk.get_submodule(self._list_name.rpartition(".")[0])
        attribute = self._list_name.rpartition(".")[2]
        setattr(parent, attribute, nn.ModuleList(self._blocks[first:end]))
        try:
            return self._trunk(
                position_ids=flat.position_ids,
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),  # so that none is made
                layout=attention.lay_out(flat.common, flat.sizes, self._head.weight.dtype, self.device),
                use_cache=False,
                **inputs,
            )
        finally:
            setattr(parent, attribute, nn.ModuleList(self._blocks))

    def logprobs(self, states: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Log-probability of each token of the answers given the state before it, float32 [tokens]."""
        return TokenLogProbs.apply(states, self._head.weight, targets, temperature)

    @torch.no_grad()
    def logprobs_and_entropy(self, states: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The same, and the entropy of the distribution that each token was drawn from, nats; float32 [tokens]."""
        head = self._head.weight
        found = scan_vocabulary(states, head, temperature, mean_row=False, entropy=True)
        assert found.entropy is not None
        return chosen_logits(states, head, targets, temperature) - found.normaliser, found.entropy

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Write the model, adapters merged, in the precision that it computes in."""
        weights = {name: self._trunk.get_submodule(name).weight for name in self._adapters}
        before = {name: weight.clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.copy_(weight.float() + self._adapters[name].delta())
        self.model.save_pretrained(folder)
        for name, weight in weights.items():
            weight.copy_(before[name])

    @torch.no_grad()
    def publish(self, folder: Path, exact: Mapping[str, Tensor]) -> None:
        """Write the model, adapters merged, in the precision of what it was loaded from, with its tokenizer.

        :param exact: float32 values of the parameters that learned, by their names in this module.
        """
        whole = load_causal(self.folder, "auto")
        for name, adapter in self._adapters.items():
            weight = whole.base_model.get_submodule(name).weight
            weight.copy_(weight.float() + adapter.delta().cpu())
        for name, value in exact.items():
            if name.startswith("model."):
                whole.get_parameter(name.removeprefix("model.")).copy_(value)
        whole.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @torch.inference_mode()
    def _can_share_rows(self) -> bool:
        """Try both ways to read on two short answers, in float32.

        :raises JobError: when neither gives what the model itself gives.
        """
        vocabulary = self.model.config.get_text_config().vocab_size
        ids = [number % vocabulary for number in range(3, 17)]
        answers = [Answer(tuple(ids[:6]), tuple(ids[6:10])), Answer(tuple(ids[:6]), tuple(ids[10:]))]
        targets = torch.tensor(ids[6:])
        logits = [self.model(torch.tensor([a.prompt + a.response])).logits[0, 5:-1] for a in answers]
        plain = torch.cat(logits).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        ways = (attention.IMPLEMENTATION, "sdpa") if may_share_rows(self.model) else ("sdpa",)
        for implementation in ways:
            self.model.set_attn_implementation(implementation)
            self.shares_rows = implementation == attention.IMPLEMENTATION
            self._first = len(self._blocks) // 2 if self.shares_rows else 0
            rows = pack(answers, self.shares_rows, len(ids))
            found = self.logprobs(self.states(rows, self.below(rows)), targets, 1.0)
            self._first = 0
            if (found - plain).abs().max() <= 1e-3:
                return self.shares_rows
        raise JobError(
            f"The model in {self.folder} computes its answers in a way that cannot be followed here: "
            "it needs a plain linear vocabulary head on the states of one stack of blocks."
        )


def load_causal(folder: Path, dtype: torch.dtype | str) -> Any:
    """Load a model folder as a causal language model, offline and from safetensors only.

    :raises JobError: when transformers cannot.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True
        ).eval()
    except (ValueError, OSError, RuntimeError) as problem:
        raise JobError(f"The model in {folder} cannot be loaded as a language model: {problem}") from None


def answer_tokens(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens of the answers in the order of rows, of the answers in them and of their own, int64 [tokens] each.

    :returns: the tokens; the number of each one's answer; its own number in it.
    """
    responses = [response for row in rows for response in row.responses]
    tokens = [token for response in responses for token in response]
    answers = [number for number, response in enumerate(responses) for _token in response]
    steps = [step for response in responses for step in range(len(response))]
    return torch.tensor(tokens), torch.tensor(answers), torch.tensor(steps)


def _places_before(flat: Flat) -> list[int]:
    """The place of the token that each token of the answers follows, in rows that lie end to end."""
    places: list[int] = []
    start = flat.common
    for prompt, *answers in flat.sizes:
        last_of_prompt = start + prompt - 1 if prompt else flat.common - 1
        start += prompt
        for length in answers:
            places += [last_of_prompt, *range(start, start + length - 1)]
            start += length
    return places
