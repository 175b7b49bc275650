"""What a training run says of its model: figures on dev and test, and every prediction behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardmodel import ensemble
from rewardmodel.calibration import expected_calibration_error, fit_temperature
from rewardmodel.contract import PREDICTION_COLUMNS, PREDICTIONS_FILE
from rewardmodel.data import Ranking, Rankings
from rewardmodel.evaluate import agreement, length_agreement
from rewardmodel.losses import pair_margins
from rewardmodel.model import RewardModel
from rewardmodel.tables import write_rows


def measure(model: RewardModel, rankings: Rankings, tokens_per_batch: int, run_path: Path) -> dict[str, Any]:
    """Figures on dev and test of the model as it is saved; writes the predictions of both.

    A split without rankings has None. Dev has chosen the weights and the temperature, so its figures flatter.
    """
    dev, test = (_member_scores(model, part, tokens_per_batch) for part in (rankings.dev, rankings.test))
    figures: dict[str, Any] = {"dev": None, "test": None, "calibration": None}
    dev_mean, test_mean = ([own.mean(1) for own in part] for part in (dev, test))
    if rankings.dev:
        figures["dev"] = dict(agreement(rankings.dev, dev_mean))
    if rankings.test:
        length_only = length_agreement(rankings.test)
        figures["test"] = {
            **agreement(rankings.test, test_mean),
            "length_only_accuracy": length_only["accuracy"],
            "length_only_accuracy_ci": length_only["accuracy_ci"],
        }
    figures["calibration"] = _calibration(_margins(rankings.dev, dev_mean), _margins(rankings.test, test_mean))
    rows = [
        *_predictions("dev", rankings.dev, dev),
        *_predictions("test", rankings.test, test),
    ]
    path = run_path / PREDICTIONS_FILE
    path.parent.mkdir(exist_ok=True)
    write_rows(path, rows, PREDICTION_COLUMNS)
    return figures


def _member_scores(model: RewardModel, rankings: Sequence[Ranking], tokens_per_batch: int) -> list[Tensor]:
    """Of each ranking [K, members] float32."""
    if not rankings:
        return []
    answers = [answer for ranking in rankings for answer in ranking.answers]
    scores = model.member_scores(answers, tokens_per_batch)
    return list(scores.split([len(ranking.answers) for ranking in rankings]))


def _margins(rankings: Sequence[Ranking], scores: Sequence[Tensor]) -> Tensor:
    """Score differences of all preferred pairs, [pairs] float64."""
    pairs = [pair_margins(own.double(), ranking.ranks) for ranking, own in zip(rankings, scores, strict=True)]
    return torch.cat(pairs) if pairs else torch.zeros(0, dtype=torch.float64)


def _calibration(dev: Tensor, test: Tensor) -> dict[str, Any] | None:
    """Temperature by dev, and the calibration error on test before and after; None where a split has no pairs."""
    if not (len(dev) and len(test)):
        return None
    temperature = fit_temperature(dev.numpy())
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(test.numpy()),
        "ece_after_temperature": expected_calibration_error(test.numpy(), temperature),
        "dev_pairs": len(dev),
        "test_pairs": len(test),
    }


def _predictions(split: str, rankings: Sequence[Ranking], scores: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Rows with the columns of :data:`rewardmodel.contract.PREDICTION_COLUMNS`."""
    rows = []
    for ranking, own in zip(rankings, scores, strict=True):
        mean, variance = ensemble.mean_and_variance(own.double())
        for index, answer in enumerate(ranking.answers):
            rows.append(
                {
                    "row_id": ranking.row_id,
                    "prompt_id": ranking.prompt_id,
                    "split": split,
                    "index": index,
                    "rank": ranking.ranks[index].item() or None,
                    "score": mean[index].item(),
                    "variance": variance[index].item() if own.shape[1] > 1 else None,
                    "members": own[index].tolist(),
                    "characters": ranking.characters[index],
                    "tokens": len(answer.response),
                    "prompt_tokens": len(answer.prompt),
                    "cut": answer.prompt_cut + answer.response_cut,
                }
            )
    return rows
