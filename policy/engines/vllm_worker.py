"""The process that holds vLLM; started by :class:`policy.engines.vllm.VllmEngine`.

    python -m policy.engines.vllm_worker SETTINGS_JSON

Reads one JSON object a line from standard input and answers on standard output. Whatever vLLM
prints goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

ROOM = 2 << 30
"""Bytes of a GPU that vLLM is thought to need beside weights and key-value cache: context, activations, graphs."""


def main(settings: dict[str, Any]) -> None:
    """Load the model, then obey until the input ends."""
    # vLLM and the libraries below it print to file descriptor 1, which carries the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")

    worker = Worker(settings)
    answer({"version": worker.version})
    while True:
        command = commands.get()
        if command["do"] == "generate":
            worker.generate(command["requests"], answer)
        else:
            worker.load_weights(command["folder"], command["version"])
            answer({})


def _read(commands: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Queue what comes in; its end means that the parent is gone, whatever this process is doing."""
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)


def memory_share(numbers: int, bytes_each: int, kv_cache: int, total: int) -> float:
    """The share of a GPU's memory that vLLM needs, which is what it is told to use.

    With a key-value cache of a set size that share sets nothing but what must be free when vLLM starts
    (``request_memory`` in ``vllm/v1/worker/utils.py``): by default it is 0.92, and a trainer that loads its models onto
    the same GPU at that time leaves less.

    :param numbers: of the model's weights.
    :param bytes_each: of one of them as it is loaded.
    :param kv_cache: bytes of the key-value cache.
    :param total: bytes of the GPU's memory.
    :returns: above 0 and at most 1.
    """
    return min(1.0, (numbers * bytes_each + kv_cache + ROOM) / total)


def weights_of(model: Path) -> int:
    """How many numbers the weights in a model folder are."""
    from safetensors import safe_open

    count = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count


class Worker:
    """vLLM's engine, in this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch
        import vllm
        from vllm.platforms import current_platform

        from rewardmodel.hardware import resolve_device, resolve_dtype

        self.version = vllm.__version__
        self._end_token_ids = settings["end_token_ids"]
        on_cpu = current_platform.is_cpu()
        dtype = resolve_dtype(settings["dtype"], resolve_device("cpu" if on_cpu else "cuda"))
        if on_cpu:
            # Even then vLLM compiles some small functions, which takes a C++ compiler that few machines have.
            torch._dynamo.config.disable = True
        memory: dict[str, Any] = {}
        if not on_cpu:
            total = torch.cuda.get_device_properties(0).total_memory
            numbers = weights_of(Path(settings["model"]))
            memory["gpu_memory_utilization"] = memory_share(numbers, dtype.itemsize, settings["kv_cache_bytes"], total)
        self._llm = vllm.LLM(
            model=settings["model"],
            skip_tokenizer_init=True,
            dtype="bfloat16" if dtype == torch.bfloat16 else "float32",
            max_model_len=settings["max_model_tokens"],
            max_num_seqs=settings["max_sequences"],
            kv_cache_memory_bytes=settings["kv_cache_bytes"],
            **memory,
            # All answers to a prompt share the whole blocks of its key-value cache.
            enable_prefix_caching=True,
            # The CPU's default of 128 tokens is longer than most prompts, and only whole blocks are shared.
            block_size=32 if on_cpu else None,
            # Compiling takes longer than all the answers of a usual job on a CPU.
            enforce_eager=on_cpu,
            # By default log-probabilities leave temperature and top-p out.
            logprobs_mode="processed_logprobs",
            generation_config="vllm",
        )
        self._requests = 0
        self._weights_version = 0

    def generate(self, requests: list[dict[str, Any]], answer: Any) -> None:
        """Answer requests, each as soon as it is whole."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        first = self._requests
        self._requests += len(requests)
        for number, request in enumerate(requests, start=first):
            sampling = SamplingParams(
                temperature=request["temperature"],
                top_p=request["top_p"],
                top_k=0,
                max_tokens=request["max_tokens"],
                seed=request["seed"],
                stop_token_ids=self._end_token_ids,
                logprobs=0,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            engine.add_request(str(number), {"prompt_token_ids": request["prompt_ids"]}, sampling)
        while engine.has_unfinished_requests():
            output: Any
            for output in engine.step():
                result = output.outputs[0]
                token_ids = list(result.token_ids)
                answer(
                    {
                        "index": int(output.request_id) - first,
                        "token_ids": token_ids,
                        "logprobs": [
                            step[token].logprob for step, token in zip(result.logprobs, token_ids, strict=True)
                        ],
                        "finish_reason": result.finish_reason,
                        "weights_version": self._weights_version,
                        "cached_tokens": output.num_cached_tokens or 0,
                    }
                )

    def load_weights(self, folder: str, version: int) -> None:
        """Take other weights in place; cached prefixes of the old ones would answer for the new."""
        self._llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("The prefix cache of the old weights could not be cleared.")
        self._weights_version = version


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
