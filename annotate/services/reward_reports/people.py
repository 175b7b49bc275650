"""The raters beside the model: how far they agree among themselves, which no model can be expected to pass.

Everything is counted over pairs of answers to test prompts that somebody put in an order: guessed alike 1, guessed to
be equal ½, guessed the other way round 0. What a rater is compared with, the model is compared with as well, as often:
each other rater of a pair, and the majority of the others with that rater left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from annotate.models import JudgementRevision, Snapshot, Split
from annotate.services.aggregation import order_of
from annotate.services.judged import Said
from annotate.services.recipe import recipe_of
from annotate.services.reward_reports.outcomes import Outcomes
from annotate.services.rows import by_item


def compare(snapshot: Snapshot, scores: Mapping[int, float], outcomes: Outcomes) -> None:
    """Add what raters and the model say of the same pairs, and what the model says of orders by single criteria.

    :param scores: the model's, by completion.
    """
    recipe, _form = recipe_of(snapshot.recipe)
    revisions = JudgementRevision.objects.filter(
        snapshotrevision__snapshot=snapshot, judgement__item__prompt__split=Split.TEST
    )
    for all_said in by_item(revisions, recipe, Counter()):
        prompt = str(all_said[0].revision.judgement.item.prompt_id)
        _raters(all_said, scores, outcomes, prompt)
        for said in all_said:
            _criteria(said, scores, outcomes, prompt)


def _raters(all_said: list[Said], scores: Mapping[int, float], outcomes: Outcomes, prompt: str) -> None:
    orders = [order_of(said) for said in all_said]
    completions = sorted(set().union(*orders) & set(scores))
    for one, other in combinations(completions, 2):
        # 1 where the one stands above the other, −1 where it stands below, 0 for a tie
        sides = [float(np.sign(order[other] - order[one])) for order in orders if one in order and other in order]
        if len(sides) < 2:
            continue
        model = float(np.sign(scores[one] - scores[other]))
        for place, side in enumerate(sides):
            others = sides[:place] + sides[place + 1 :]
            most = float(np.sign(sum(others)))
            if len(others) > 1 and most:
                outcomes.add("people", "model with majority of others", _alike(model, most), prompt)
                outcomes.add("people", "rater with majority of others", _alike(side, most), prompt)
            if side:
                outcomes.add("people", "model with rater", _alike(model, side), prompt)
                alike = [_alike(guess, side) for guess in others]
                outcomes.add("people", "rater with rater", sum(alike) / len(alike), prompt)


def _alike(guess: float, truth: float) -> float:
    return 1 - abs(guess - truth) / 2


def _criteria(said: Said, scores: Mapping[int, float], outcomes: Outcomes, prompt: str) -> None:
    given: dict[int, dict[int, int]] = defaultdict(dict)
    for score in said.revision.scores.all():
        if score.completion_id in scores:
            given[score.criterion_id][score.completion_id] = score.value
    for criterion, values in given.items():
        for one, other in combinations(sorted(values), 2):
            side = float(np.sign(values[one] - values[other]))
            if side:
                guess = float(np.sign(scores[one] - scores[other]))
                outcomes.add("criterion", criterion, _alike(guess, side), prompt)
