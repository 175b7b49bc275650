"""The policy under training: a frozen language model, low-rank adapters on it, and a value head.

One forward pass serves policy and values. All answers to a prompt lie in one row behind it (see
:mod:`rewardmodel.batching`), so a prompt is read once. Only positions that predict an answer's
token go through the vocabulary head. With its adapters off the policy is its own reference. Dropout
is off throughout: PPO's ratios compare log-probabilities of two passes.

Only the upper layers carry adapters. What enters the first of them never changes, so it is computed
once for each answer (:meth:`Actor.below`) and serves policy, reference and every pass of training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from policy.modules import LowRankAdapter, TokenLogProbs
from rewardmodel.batching import Batch, Row, collate, pack, tree_mask
from rewardmodel.chat import Answer, load_tokenizer
from rewardmodel.contract import JobError


class Actor(nn.Module):
    """A policy with a value head; see the module's description."""

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        alpha: float,
        layers: float,
        dtype: torch.dtype,
        device: torch.device,
        seed: int,
    ) -> None:
        """Load the parent and put fresh adapters on it, which change nothing yet.

        :param layers: share of the layers that carry adapters, counted from the top, in (0, 1].
        :raises JobError: when the model cannot be trained here.
        """
        super().__init__()
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.model = _load(folder, torch.float32).requires_grad_(False)
        self._layers_name, self._layers = self._find_layers()
        self._first = min(len(self._layers) - 1, round(len(self._layers) * (1 - layers)))
        self._check_rows_can_be_shared()
        for parameter in self.model.parameters():
            # Not model.to(dtype), which would round the rotary frequencies as well.
            parameter.data = parameter.data.to(dtype)
        self.model.to(device)
        generator = torch.Generator().manual_seed(seed)
        prefixes = tuple(f"{self._layers_name}.{number}." for number in range(self._first, len(self._layers)))
        linears = ((name, part) for name, part in self._trunk.named_modules() if isinstance(part, nn.Linear))
        self._adapters = {
            name: LowRankAdapter(part, rank, alpha, generator) for name, part in linears if name.startswith(prefixes)
        }
        if not self._adapters:
            raise JobError(f"The model in {folder} has no linear layers to put adapters on.")
        self.adapters = nn.ModuleList(self._adapters.values())
        self.value_head = nn.Linear(self._head.in_features, 1, device=device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def _trunk(self) -> Any:
        return self.model.base_model

    @property
    def _head(self) -> Any:
        return self.model.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.value_head.weight.device

    @torch.no_grad()
    def below(self, rows: Sequence[Row]) -> list[Tensor]:
        """What enters the first layer with adapters, for each row [tokens, hidden size]."""
        if self._first == 0:
            states = self._trunk.get_input_embeddings()(self._collate(rows).input_ids)
        else:
            entering: list[Any] = []
            last = self._layers[self._first - 1]
            hook = last.register_forward_hook(lambda layer, inputs, output: entering.append(output))
            with self._only_layers(0, self._first):
                self._run_trunk(rows, input_ids=self._collate(rows).input_ids)
            hook.remove()
            states = entering[0] if isinstance(entering[0], Tensor) else entering[0][0]
        return [states[index, : row.tokens] for index, row in enumerate(rows)]

    def forward(
        self, rows: Sequence[Row], below: Sequence[Tensor], width: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each answer's tokens, and the value before each was drawn.

        :param rows: prompts with their answers.
        :param below: of each row what :meth:`below` gave.
        :param width: T, tokens of the longest answer that the caller pads to.
        :param temperature: softmax temperature of the log-probabilities.
        :returns: log-probabilities and values, both float32 [answers, T], in the order of the rows and
            of the answers in them, 0 after an answer's end.
        """
        places, before = self._answer_states(rows, below)
        logprobs = TokenLogProbs.apply(before, self._head.weight, places["token"], temperature)
        values = self.value_head(before.float())[:, 0]
        shape = (sum(len(row.responses) for row in rows), width)
        where = (places["answer"], places["step"])
        return logprobs.new_zeros(shape).index_put(where, logprobs), values.new_zeros(shape).index_put(where, values)

    def _answer_states(self, rows: Sequence[Row], below: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The answers' tokens, see :func:`_answer_positions`, and the states before them, [tokens, hidden size]."""
        with self._only_layers(self._first, len(self._layers)):
            states = self._run_trunk(rows, inputs_embeds=nn.utils.rnn.pad_sequence(list(below), batch_first=True))
        places = _answer_positions(rows, states.device)
        return places, states[places["row"], places["before"]]

    def _run_trunk(self, rows: Sequence[Row], **inputs: Tensor) -> Tensor:
        """The trunk's last states over packed rows, [rows, tokens of the longest, hidden size]."""
        batch = self._collate(rows)
        mask = tree_mask(batch.segments)
        return self._trunk(
            attention_mask=mask, position_ids=batch.position_ids, use_cache=False, **inputs
        ).last_hidden_state

    def _collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows, self.tokenizer.eos_token_id, self._head.weight.device)

    @contextlib.contextmanager
    def _only_layers(self, first: int, end: int) -> Iterator[None]:
        """The trunk with some of its layers only."""
        setattr(self._trunk, self._layers_name, nn.ModuleList(self._layers[first:end]))
        try:
            yield
        finally:
            setattr(self._trunk, self._layers_name, nn.ModuleList(self._layers))

    def _find_layers(self) -> tuple[str, list[nn.Module]]:
        """The trunk's list of layers and its name."""
        lists = [(name, part) for name, part in self._trunk.named_children() if isinstance(part, nn.ModuleList)]
        if len(lists) != 1:
            raise JobError(f"The model in {self.folder} is not one stack of layers, so PPO cannot train it here.")
        [(name, layers)] = lists
        return name, list(layers)

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[None]:
        """The parent's own weights, without the adapters."""
        self._enable_adapters(False)
        try:
            yield
        finally:
            self._enable_adapters(True)

    @torch.no_grad()
    def save_merged(self, folder: Path) -> None:
        """Write the current policy as a model folder in the trainer's precision, for the sampler."""
        weights = [self._trunk.get_submodule(name).weight for name in self._adapters]
        before = [weight.clone() for weight in weights]
        for weight, adapter in zip(weights, self._adapters.values(), strict=True):
            weight.copy_(weight.float() + adapter.delta())
        self.model.save_pretrained(folder)
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)

    @torch.no_grad()
    def publish_merged(self, folder: Path) -> None:
        """Write the current policy as a model folder in the parent's own precision, with its tokenizer."""
        parent = _load(self.folder, "auto")
        for name, adapter in self._adapters.items():
            weight = parent.base_model.get_submodule(name).weight
            weight.copy_(weight.float() + adapter.delta().cpu())
        parent.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def save_adapters(self, file: Path) -> None:
        """Write adapters and value head as safetensors."""
        save_file({name: tensor.detach().contiguous() for name, tensor in self.trained().items()}, file)

    @torch.no_grad()
    def load_adapters(self, file: Path) -> None:
        """Take the adapters and the value head that :meth:`save_adapters` wrote."""
        saved = load_file(file)
        for name, tensor in self.trained().items():
            tensor.copy_(saved[name])

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def _enable_adapters(self, enabled: bool) -> None:
        for adapter in self._adapters.values():
            adapter.enabled = enabled

    @torch.inference_mode()
    def _check_rows_can_be_shared(self) -> None:
        """Refuse a model whose answers change when they share a row, or whose head does more than multiply.

        Recurrent layers, short attention windows, scaled logits and the like would train a policy other
        than the one that samples.
        """
        vocabulary = self.model.config.get_text_config().vocab_size
        ids = [number % vocabulary for number in range(3, 17)]
        answers = [Answer(tuple(ids[:6]), tuple(ids[6:10])), Answer(tuple(ids[:6]), tuple(ids[10:]))]
        rows = pack(answers, True, len(ids))
        places, before = self._answer_states(rows, self.below(rows))
        shared = TokenLogProbs.apply(before, self._head.weight, places["token"], 1.0)
        logits = [self.model(torch.tensor([a.prompt + a.response])).logits[0, 5:-1] for a in answers]
        plain = torch.cat(logits).log_softmax(-1).gather(1, places["token"][:, None])[:, 0]
        if (shared - plain).abs().max() > 1e-3:
            raise JobError(
                f"The model in {self.folder} computes its answers in a way that PPO cannot follow here: "
                "it needs full attention, a plain stack of layers and a plain linear vocabulary head."
            )


def _load(folder: Path, dtype: torch.dtype | str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()


def _answer_positions(rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
    """The tokens of the answers, one entry a token, in the order of rows and answers.

    :returns: ``token``; ``answer`` and ``step``, the number of its answer and its own in it; ``row`` and
        ``before``, the place of the token that it follows.
    """
    places: dict[str, list[int]] = {"token": [], "answer": [], "step": [], "row": [], "before": []}
    answer = 0
    for row_index, row in enumerate(rows):
        start = len(row.prompt)
        for response in row.responses:
            end = start + len(response)
            places["token"] += response
            places["answer"] += [answer] * len(response)
            places["step"] += range(len(response))
            places["row"] += [row_index] * len(response)
            places["before"] += [len(row.prompt) - 1, *range(start, end - 1)]
            start = end
            answer += 1
    return {name: torch.tensor(numbers, device=device) for name, numbers in places.items()}
