"""The policy under training: a frozen language model, low-rank adapters on it, and a value head.

One forward pass serves policy and values. All answers to a prompt lie in one row behind it (see
:mod:`rewardmodel.batching`), so a prompt is read once. Only positions that predict an answer's
token go through the vocabulary head. With its adapters off the policy is its own reference. Dropout
is off throughout: PPO's ratios compare log-probabilities of two passes.

The adapters are hooks on the linear layers, so the model keeps its own names and saves itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rewardmodel.batching import Row, collate, pack, tree_mask
from rewardmodel.chat import Answer, load_tokenizer
from rewardmodel.contract import JobError

HEAD_CHUNK = 512


class LowRankAdapter(nn.Module):
    """x ↦ (alpha / rank)·B·A·x, added to a frozen linear layer's output (Hu et al. 2022, section 4.1)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(layer.in_features)
        device = layer.weight.device
        initial = (torch.rand(rank, layer.in_features, generator=generator) * 2 - 1) * bound
        self.a = nn.Parameter(initial.to(device))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, device=device))
        self.scale = alpha / rank
        self.enabled = True
        layer.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.enabled:
            return output
        x = inputs[0]
        return output + (x @ self.a.to(x.dtype).T) @ (self.b * self.scale).to(x.dtype).T

    @torch.no_grad()
    def delta(self) -> Tensor:
        """What the adapter adds to its layer's weight, float32 [out, in]."""
        return self.scale * self.b @ self.a


class TokenLogProbs(torch.autograd.Function):
    """Log-probabilities of given tokens under softmax(head·state / temperature), the head being frozen.

    The gradient with respect to the state does not need the gradient from above except as a factor:
    d log p(y) / d state = (head[y] − Σ_v p(v)·head[v]) / temperature. It is therefore taken in the
    forward pass, chunk by chunk, and no [positions, vocabulary] tensor is ever kept.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Log-probabilities, float32 [positions].

        :param states: [positions, hidden size].
        :param head: [vocabulary, hidden size].
        :param targets: int64 [positions].
        :param temperature: softmax temperature.
        """
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        slopes = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            logits = (states[part] @ head.T).float().div_(temperature)
            chosen = logits.gather(1, targets[part, None])[:, 0]
            normaliser = logits.logsumexp(dim=1)
            logprobs[part] = chosen - normaliser
            if slopes is not None:
                probabilities = logits.sub_(normaliser[:, None]).exp_().to(head.dtype)
                slopes[part] = (head[targets[part]] - probabilities @ head) / temperature
        ctx.save_for_backward(slopes)
        return logprobs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the slopes by the gradient of each log-probability."""
        [slopes] = ctx.saved_tensors
        return (gradients[0][:, None] * slopes).to(slopes.dtype), None, None, None


class Actor(nn.Module):
    """A policy with a value head; see the module's description."""

    def __init__(
        self, folder: Path, *, rank: int, alpha: float, dtype: torch.dtype, device: torch.device, seed: int
    ) -> None:
        """Load the parent and put fresh adapters on it, which change nothing yet.

        :raises JobError: when the model cannot be trained here.
        """
        super().__init__()
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.model = _load(folder, torch.float32).requires_grad_(False)
        self._check_rows_can_be_shared()
        for parameter in self.model.parameters():
            # Not model.to(dtype), which would round the rotary frequencies as well.
            parameter.data = parameter.data.to(dtype)
        self.model.to(device)
        generator = torch.Generator().manual_seed(seed)
        self._layer_names = [name for name, part in self._trunk.named_modules() if isinstance(part, nn.Linear)]
        if not self._layer_names:
            raise JobError(f"The model in {folder} has no linear layers to put adapters on.")
        self._adapters = [
            LowRankAdapter(self._trunk.get_submodule(name), rank, alpha, generator) for name in self._layer_names
        ]
        self.adapters = nn.ModuleList(self._adapters)
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

    def forward(self, rows: Sequence[Row], width: int, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probability of each answer's tokens, and the value before each was drawn.

        :param rows: prompts with their answers.
        :param width: T, tokens of the longest answer that the caller pads to.
        :param temperature: softmax temperature of the log-probabilities.
        :returns: log-probabilities and values, both float32 [answers, T], in the order of the rows and
            of the answers in them, 0 after an answer's end.
        """
        states, targets, where = self._answer_states(rows)
        logprobs = TokenLogProbs.apply(states, self._head.weight, targets, temperature)
        values = self.value_head(states.float())[:, 0]
        shape = (sum(len(row.responses) for row in rows), width)
        return logprobs.new_zeros(shape).index_put(where, logprobs), values.new_zeros(shape).index_put(where, values)

    def _answer_states(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The trunk's states from which the answers' tokens are predicted.

        :returns: states [tokens, hidden size], the tokens int64 [tokens], and of each token the number of
            its answer and its place in it, both int64 [tokens].
        """
        device = self._head.weight.device
        batch = collate(rows, self.tokenizer.eos_token_id, device)
        output = self._trunk(
            input_ids=batch.input_ids,
            attention_mask=tree_mask(batch.segments),
            position_ids=batch.position_ids,
            use_cache=False,
        )
        places = _answer_positions(rows, device)
        states = output.last_hidden_state[places["row"], places["before"]]
        targets = batch.input_ids[places["row"], places["column"]]
        return states, targets, (places["answer"], places["step"])

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
        weights = [self._trunk.get_submodule(name).weight for name in self._layer_names]
        before = [weight.clone() for weight in weights]
        for weight, adapter in zip(weights, self._adapters, strict=True):
            weight.copy_(weight.float() + adapter.delta())
        self.model.save_pretrained(folder)
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)

    @torch.no_grad()
    def publish_merged(self, folder: Path) -> None:
        """Write the current policy as a model folder in the parent's own precision, with its tokenizer."""
        parent = _load(self.folder, "auto")
        for name, adapter in zip(self._layer_names, self._adapters, strict=True):
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
        for adapter in self._adapters:
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
        states, targets, _ = self._answer_states(pack(answers, True, len(ids)))
        shared = TokenLogProbs.apply(states, self._head.weight, targets, 1.0)
        logits = [self.model(torch.tensor([a.prompt + a.response])).logits[0, 5:-1] for a in answers]
        plain = torch.cat(logits).log_softmax(-1).gather(1, targets[:, None])[:, 0]
        if (shared - plain).abs().max() > 1e-3:
            raise JobError(
                f"The model in {self.folder} computes its answers in a way that PPO cannot follow here: "
                "it needs full attention and a plain linear vocabulary head."
            )


def _load(folder: Path, dtype: torch.dtype | str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True).eval()


def _answer_positions(rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
    """Where the tokens of the answers lie, one entry a token, in the order of rows and answers.

    :returns: ``answer`` and ``step`` (number of the answer, and of the token in it), ``row`` and
        ``column`` of the token, and ``before``, the column of the token that it follows.
    """
    places: dict[str, list[int]] = {"answer": [], "step": [], "row": [], "column": [], "before": []}
    answer = 0
    for row_index, row in enumerate(rows):
        start = len(row.prompt)
        for response in row.responses:
            columns = range(start, start + len(response))
            places["answer"] += [answer] * len(response)
            places["step"] += range(len(response))
            places["row"] += [row_index] * len(response)
            places["column"] += columns
            places["before"] += [len(row.prompt) - 1, *columns[:-1]]
            start += len(response)
            answer += 1
    return {name: torch.tensor(numbers, device=device) for name, numbers in places.items()}
