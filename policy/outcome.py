"""How every fine-tuning begins and ends: what is looked at before anything heavy, and the published policy."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import torch
from transformers.utils import logging

from policy.language import LanguageModel
from policy.methods import FineTuneJob
from rewardmodel.hardware import resolve_device
from rewardmodel.publish import publish
from rewardmodel.rundir import RunDir
from rewardmodel.state import MasterWeights

MODEL_FOLDER = "output/model"


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
    model: LanguageModel,
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
            "versions": {**(versions or {}), **{name: version(name) for name in ("torch", "transformers", "peft")}},
        }
    )
