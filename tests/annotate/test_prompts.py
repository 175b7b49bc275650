"""Importing prompts: all of a file or nothing, and no prompt on two sides of a split."""

from __future__ import annotations

import json

import pytest

from annotate.models import AuditEvent
from annotate.services import Refused
from annotate.services.prompts import BadLines, PromptRow, add_prompts, read_jsonl
from tests.annotate.factory import world


def test_every_broken_line_is_named_with_its_reason() -> None:
    lines = [
        '{"messages": [{"role": "user", "content": "fine"}]}',
        "{broken",
        '{"messages": [{"role": "robot", "content": "x"}]}',
        '{"prompt": "fine too"}',
        '{"prompt": "x", "split": "holdout"}',
    ]
    with pytest.raises(BadLines) as caught:
        read_jsonl(lines)
    assert [line for line, _reason in caught.value.problems] == [2, 3, 5]
    assert "line 2: not JSON" in str(caught.value)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(Refused, match="no prompts"):
        read_jsonl(["", "  \n"])


def test_an_empty_chat_is_a_prompt() -> None:
    assert read_jsonl(['{"messages": []}'])[0].messages == []


def test_a_lone_surrogate_is_named_not_stored() -> None:
    with pytest.raises(BadLines, match="line 1"):
        read_jsonl([json.dumps({"prompt": "\ud800"})])


@pytest.mark.django_db
def test_a_known_prompt_keeps_its_split_and_is_counted() -> None:
    stage = world(prompts=1)
    rows = [PromptRow([{"role": "user", "content": "Question  number 0?"}], split="test"), PromptRow([])]
    report = add_prompts(project=stage.project, rows=rows, actor=stage.alice)
    assert (report.new, report.known) == (1, 1)
    assert stage.project.prompts.get(messages__0__content="Question number 0?").split == "train"
    assert AuditEvent.objects.filter(action="imported prompts", actor=stage.alice).count() == 2


@pytest.mark.django_db
def test_prompts_without_a_split_get_a_lasting_one_in_the_stated_shares() -> None:
    stage = world(prompts=0)
    rows = [PromptRow([{"role": "user", "content": f"Number {n}"}]) for n in range(1000)]
    add_prompts(project=stage.project, rows=rows, actor=None)
    counts = {s: stage.project.prompts.filter(split=s).count() for s in ("train", "dev", "test")}
    # Binomial standard deviations are 14.5, 9.5 and 12.6: four of them on either side.
    assert abs(counts["train"] - 700) < 58
    assert abs(counts["dev"] - 100) < 38
    assert abs(counts["test"] - 200) < 51
