"""vLLM in a process of its own.

The process is :mod:`policy.engines.vllm_worker`; the two speak JSON, one object a line, through the
worker's standard input and output. The worker ends when its input closes, so it cannot outlive the
process that started it, however that process ends. A worker of our own, instead of the engine-core
process that vLLM would start, spares one interpreter's start and vLLM's thread binding, which
on a machine with few cores leaves the model too little: on 2 cores 700 tokens a second, not 480.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policy.contract import EngineConfig
from policy.engines.base import (
    WAIT_SECONDS,
    Capabilities,
    Completion,
    OnWait,
    Request,
    context_tokens,
    decode,
    end_token_ids,
)
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import JobError

CLOSE_SECONDS = 10.0
LOG_LINES = 8
ENVIRONMENT = {
    # Without it vLLM measures and warms up its CPU kernels for a minute before the first answer.
    "VLLM_CPU_CI_ENV": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_COLOR": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"

ERROR_LINE = re.compile(r"(?:\[rank\d+\]: *)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .+)")
"""A traceback's last line, with or without the rank that torch puts before it."""


class VllmEngine:
    """The fast engine: continuous batching, log-probabilities of the distribution sampled."""

    name = "vllm"
    capabilities = Capabilities(token_ids=True, logprobs=True, swaps_weights=True)

    def __init__(self, config: EngineConfig, model: Path, log: Path) -> None:
        """Start the worker; :meth:`wait_until_ready` tells when it has loaded the model."""
        if importlib.util.find_spec("vllm") is None:
            raise JobError("The engine vllm is not installed; choose the engine transformers or install vllm.")
        self.version = ""
        self._tokenizer = load_tokenizer(model)
        self._log = log
        settings = asdict(config) | {
            "model": str(model),
            "max_model_tokens": context_tokens(config, model),
            "end_token_ids": end_token_ids(model, self._tokenizer),
        }
        with open(log, "a") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "policy.engines.vllm_worker", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=os.environ
                | ENVIRONMENT
                | visible_gpu(config.device, os.environ.get(VISIBLE_GPUS))
                | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
                text=True,
            )
        self._ready = False
        # Read by a thread, so that whoever waits can be told of it, and can leave, even if the worker hangs.
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self, on_wait: OnWait | None = None) -> None:
        """Block until vLLM has loaded the model; see :meth:`policy.engines.base.Engine.wait_until_ready`."""
        if self._ready:
            return
        self.version = self._receive(on_wait)["version"]
        self._ready = True

    def stream(self, requests: Sequence[Request], on_wait: OnWait | None = None) -> Iterator[tuple[int, Completion]]:
        """Draw answers; see :meth:`policy.engines.base.Engine.stream`."""
        self.wait_until_ready()
        if not requests:
            return
        self._send({"do": "generate", "requests": [asdict(request) for request in requests]})
        for _ in requests:
            answer = self._receive(on_wait)
            ids = answer["token_ids"]
            completion = Completion(
                text=decode(self._tokenizer, ids),
                token_count=len(ids),
                finish_reason=answer["finish_reason"],
                token_ids=ids,
                logprobs=answer["logprobs"],
                weights_version=answer["weights_version"],
                cached_tokens=answer["cached_tokens"],
            )
            yield answer["index"], completion

    def load_weights(self, folder: Path, version: int = 0) -> None:
        """Swap the weights in place and forget everything computed with the old ones."""
        self.wait_until_ready()
        self._send({"do": "load_weights", "folder": str(folder), "version": version})
        self._receive()

    def close(self) -> None:
        """End the worker."""
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._stdout.close()

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    @property
    def _stdout(self) -> Any:
        return self._process.stdout

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            raise JobError(self._how_it_ended()) from None

    def _read(self) -> None:
        """Queue what the worker says, and an empty line when it has ended."""
        for line in self._stdout:
            self._lines.put(line)
        self._lines.put("")

    def _receive(self, on_wait: OnWait | None = None) -> dict[str, Any]:
        while True:
            try:
                line = self._lines.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                if on_wait is not None:
                    on_wait("")
                continue
            if not line:
                self._lines.put(line)  # for whoever asks again
                raise JobError(self._how_it_ended())
            message: dict[str, Any] = json.loads(line)
            return message

    def _how_it_ended(self) -> str:
        """One sentence with the cause, then the end of the log."""
        self._process.wait()
        lines = self._log.read_text(errors="replace").splitlines()
        cause = next((found[1] for line in reversed(lines) if (found := ERROR_LINE.match(line))), "it left no error")
        what = "ended" if self._ready else "could not start"
        tail = "\n".join(lines[-LOG_LINES:])
        return f"vLLM {what} (exit status {self._process.returncode}): {cause}\nThe end of {self._log}:\n{tail}"


def visible_gpu(device: str, visible: str | None) -> dict[str, str]:
    """What the worker's environment is given so that vLLM, which takes the first GPU that it sees, takes a job's.

    :param device: as torch names it; only ``cuda:N`` names a GPU.
    :param visible: the GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` has them; None for all.
    :raises JobError: when this process does not see that one.
    """
    kind, _colon, number = device.partition(":")
    if kind != "cuda" or not number.isdecimal():
        return {}
    if visible is None:
        return {VISIBLE_GPUS: number}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if int(number) >= len(names):
        raise JobError(f"There is no device {device!r} on this machine.")
    return {VISIBLE_GPUS: names[int(number)]}
