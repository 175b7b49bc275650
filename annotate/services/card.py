"""A snapshot's data set card, in the form that Hugging Face reads: YAML for programs, then Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from annotate.formats.writing.forms import FORMS
from annotate.models import Snapshot, Split
from annotate.services.recipe import recipe_of
from annotate.services.snapshots import splits_of

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Names of sizes on the Hub, by the number of rows that they end below."""
LARGEST = "1M<n<10M"
BY_KIND = {"human": "people", "simulated": "simulated raters", "ai": "AI judges"}
RULES = {
    "every rater": "every rater's judgement stands for itself",
    "majority": "pairwise majority of an item's raters; as many on both sides are a tie",
    "reliability": "pairwise majority of an item's raters, each weighing max(0.05, 2a - 1) for a mean agreement a with "
    "the others",
}


def card(snapshot: Snapshot, files: Sequence[str] = ()) -> str:
    """The card of a snapshot.

    :param files: of its export, so that ``datasets.load_dataset(folder, form)`` finds them.
    """
    return f"---\n{_front_matter(snapshot, files)}---\n\n{body(snapshot)}"


def body(snapshot: Snapshot) -> str:
    """The part of the card that people read, as Markdown."""
    counts = snapshot.counts
    recipe, _form = recipe_of(snapshot.recipe)
    parts = [
        f"# {snapshot.project.name}: {snapshot.name}",
        "Preferences between answers of language models, collected with Hone. The data set is frozen; its content has "
        f"the SHA-256 `{snapshot.sha256}`.",
        "## What it holds",
        _table(
            ["split", "prompts", "rankings", "pairs", "demonstrations"],
            [
                [row.split.value, row.prompts, row.rankings, row.pairs, row.demonstrations]
                for row in splits_of(snapshot)
            ],
        ),
        "A prompt lies in one split only. Train on *train*, choose on *dev*, report on *test*.",
        "## Where it comes from",
        _table(["source", "rows"], sorted(counts.get("sources", {}).items())),
        _facts(snapshot, recipe.aggregation),
        *_left_out(counts),
        "## Known biases",
        *_biases(counts),
        "## Recipe",
        f"```json\n{json.dumps(snapshot.recipe, indent=1, ensure_ascii=False, sort_keys=True)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(snapshot: Snapshot, files: Sequence[str]) -> str:
    """YAML; every value is written as JSON, which YAML contains."""
    recipe, _form = recipe_of(snapshot.recipe)
    pairs = sum(row.pairs for row in splits_of(snapshot))
    fields: dict[str, Any] = {
        "pretty_name": f"{snapshot.project.name}: {snapshot.name}",
        "license": recipe.licence or "unknown",
        "task_categories": ["text-generation"],
        "size_categories": [next((name for most, name in SIZES if pairs < most), LARGEST)],
        "tags": ["preference", "rlhf", "reward-model", "dpo", "trl"],
    }
    configs = [
        {
            "config_name": form,
            **({"default": True} if form == "trl-preference" else {}),
            "data_files": [
                {"split": str(split), "path": path} for split in Split if (path := f"{form}/{split}.parquet") in files
            ],
        }
        for form in FORMS
    ]
    if configs := [config for config in configs if config["data_files"]]:
        fields["configs"] = configs
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())


def _facts(snapshot: Snapshot, aggregation: str) -> str:
    counts = snapshot.counts
    raters = [f"{BY_KIND.get(kind, kind)}: {count}" for kind, count in sorted(counts.get("raters", {}).items())]
    versions = sorted(counts.get("guidelines", {}).items(), key=lambda entry: int(entry[0]))
    guidelines = [f"version {number} ({count} rankings)" for number, count in versions]
    lines = [
        f"- Raters: {', '.join(raters) or 'none; all of it was imported'}",
        f"- Several raters on one item: {RULES[aggregation]}; an adjudication stands for its whole item",
        f"- Instructions: {', '.join(guidelines) or 'none recorded'}",
    ]
    lines.append(f"- {_agreement(counts.get('agreement', {}))}")
    return "\n".join(lines)


def _agreement(found: dict[str, Any]) -> str:
    """How far raters agree, in a sentence; snapshots of before intervals were taken have none."""
    apart = f"; {found['apart']} pairs under different instructions are left out" if found.get("apart") else ""
    if not found.get("pairs"):
        return f"Agreement: unknown (n = 0), no two raters judged the same item{apart}"
    interval = found.get("interval")
    within = f" (95 % interval over items {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return (
        f"Agreement of two raters on an item: {found['mean']:.3f}{within}, mean over n = {found['pairs']} pairs "
        f"of judgements (share of answer pairs ordered alike, a tie against an order counting one half){apart}"
    )


def _left_out(counts: dict[str, Any]) -> list[str]:
    rows = [[entry["what"], entry["reason"], entry["count"]] for entry in counts.get("left_out", [])]
    return ["### Left out", _table(["what", "because of", "count"], rows)] if rows else []


def _biases(counts: dict[str, Any]) -> list[str]:
    longer, first = counts.get("longer_preferred", {}), counts.get("first_preferred", {})
    lines = []
    if longer.get("pairs"):
        lines.append(
            f"- Length: the longer answer is preferred in {longer['share']:.1%} of n = {longer['pairs']} pairs of "
            f"unequal length; answers have {counts['mean_characters']:.0f} characters on average."
        )
    if first.get("pairs"):
        lines.append(
            f"- Position: the answer that was shown first is preferred in {first['share']:.1%} of n = {first['pairs']} "
            "pairs; the order was drawn at random."
        )
    lines.append("- The raters are those named above, not a sample of any population.")
    return ["\n".join(lines)]


def _table(head: list[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")
