"""How every improvement of a policy ends, with the published policy; and how a fine-tuning begins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.utils import logging

from policy.methods import FineTuneJob
from rewardmodel.hardware import resolve_device
from rewardmodel.publish import publish
from rewardmodel.rundir import RunDir
from rewardmodel.state import MasterWeights

MODEL_FOLDER = "output/model"


class Publishable(Protocol):
    """A policy that can be written as a model folder."""

    def publish(self, folder: Path, trained: Mapping[str, Tensor], /) -> None:
        """Write it.

        :param trained: values of the trained parameters by name, in float32.
        """


def begin(job: FineTuneJob) -> None:
    """Set torch up for a job.

    :raises JobError: when the device that it asks for is not here.
    """
    logging.disable_progress_bar()
    if job.threads:
        torch.set_num_threads(job.threads)
    resolve_device(job.device)


def finish(
    run: RunDir,
    kind: str,
    model: Publishable,
    weights: MasterWeights,
    metrics: dict[str, Any],
    seconds: dict[str, float],
    versions: dict[str, str] | None = None,
) -> None:
    """Publish the policy and write ``result.json``.

    :param seconds: by stage.
    :param versions: of engines that took part.
    """
    run.progress("publish", message="Writing the improved policy")
    began = time.monotonic()
    manifest = publish(run.path / MODEL_FOLDER, lambda folder: model.publish(folder, weights.by_name()))
    run.finish(
        {
            "kind": kind,
            "model": MODEL_FOLDER,
            "manifest_sha256": manifest,
            "metrics": {**metrics, "settled": run.settle_requested},
            "seconds": {
                name: round(value, 2) for name, value in (seconds | {"publish": time.monotonic() - began}).items()
            },
            "versions": {**(versions or {}), **{name: version(name) for name in ("torch", "transformers")}},
        }
    )
