"""How near answers come to reference answers, for prompts that have one.

Words are runs of letters or digits and single Chinese characters, lower case; articles are words like others. BLEU and
chrF are sacrebleu's, with its tokenizer for Chinese where a reference has Chinese.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from annotate.stats.estimate import SHARE, Bounds, Estimate, Reason, Undefined
from annotate.stats.intervals import mean_interval, share_interval
from annotate.stats.resampling import ROUNDS, Clusters, Floats, bootstrap
from annotate.stats.style import CHINESE, WORD

PER_CENT: Bounds = (0.0, 100.0)
ORDERS = 4
"""Longest run of words that BLEU counts."""


def text_metrics(
    answers: Sequence[str], references: Sequence[str | None], *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Estimate | Undefined]:
    """Metrics of one answer to each prompt, with intervals over prompts; n counts prompts with a reference.

    :param answers: [n].
    :param references: [n], None for a prompt without one.
    :returns: exact match (the same words; accuracy, where the reference is a class), token F1 (Rajpurkar and others
        2016, "SQuAD") and ROUGE-L (Lin 2004, "ROUGE") from 0 to 1, mean chrF and corpus BLEU from 0 to 100.
    """
    pairs = [(answer, known) for answer, known in zip(answers, references, strict=True) if known is not None]
    if not pairs:
        names = ("exact match", "token F1", "ROUGE-L", "chrF", "BLEU")
        return dict.fromkeys(names, Undefined(Reason.NO_REFERENCES))
    chrf = CHRF()

    def mean(metric: Callable[[list[str], list[str]], float]) -> Estimate | Undefined:
        return mean_interval([metric(words(answer), words(known)) for answer, known in pairs], bounds=SHARE)

    return {
        "exact match": share_interval([words(answer) == words(known) for answer, known in pairs]),
        "token F1": mean(token_f1),
        "ROUGE-L": mean(rouge_l),
        "chrF": mean_interval([chrf.sentence_score(answer, [known]).score for answer, known in pairs], bounds=PER_CENT),
        "BLEU": _bleu(pairs, rounds, seed),
    }


def words(text: str) -> list[str]:
    """The words of a text."""
    return WORD.findall(text.lower())


def token_f1(answer: list[str], reference: list[str]) -> float:
    """Harmonic mean of precision and recall of words, each as often as it occurs."""
    return _f1((Counter(answer) & Counter(reference)).total(), len(answer), len(reference))


def rouge_l(answer: list[str], reference: list[str]) -> float:
    """The same of the longest common subsequence."""
    longest = [0] * (len(reference) + 1)
    for word in answer:
        before = 0
        for place, other in enumerate(reference, start=1):
            before, longest[place] = (
                longest[place],
                before + 1 if word == other else max(longest[place], longest[place - 1]),
            )
    return _f1(longest[-1], len(answer), len(reference))


def _f1(common: int, answer: int, reference: int) -> float:
    if answer + reference == 0:
        return 1.0
    return 2 * common / (answer + reference)


def _bleu(pairs: Sequence[tuple[str, str]], rounds: int, seed: int) -> Estimate:
    """Corpus BLEU, a function of sums of matches, of runs of words, and of lengths."""
    chinese = any(re.search(f"[{CHINESE}]", known) for _answer, known in pairs)
    metric = BLEU(tokenize="zh" if chinese else "13a", effective_order=True)
    scores = [metric.sentence_score(answer, [known]) for answer, known in pairs]
    rows = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], dtype=np.float64)
    spread = bootstrap(rows, _bleu_of_totals, Clusters.of(np.arange(len(pairs)), None), rounds=rounds, seed=seed)
    return spread.estimates(_bleu_of_totals(rows.sum(axis=0)[None])[0], len(pairs), bounds=PER_CENT)[0]


def _bleu_of_totals(totals: Floats) -> Floats:
    """[b, 1]: Papineni and others (2002), "BLEU", smoothed as by sacrebleu, which takes no weighted counts.

    The k-th order of which no run matches counts as ½ᵏ matches: Chen and Cherry (2014), "A systematic comparison of
    smoothing techniques for sentence-level BLEU", method 3. Where nothing matches at all, or no answer is long enough
    for an order, it is 0.
    """
    matched, runs, length, wanted = totals[:, :ORDERS], totals[:, ORDERS : 2 * ORDERS], totals[:, -2], totals[:, -1]
    missing = matched == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=1), matched)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(runs > 0, np.log(smoothed / runs), -np.inf).mean(axis=1)
        brevity = np.minimum(0, 1 - wanted / length)
        score = 100 * np.exp(precision + brevity)
    return np.where(missing.all(axis=1), 0, score)[:, None]
