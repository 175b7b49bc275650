"""Chats as the plain text that forms without roles take."""

from __future__ import annotations

from annotate.formats.writing.ranking import Messages

SPEAKERS = {"user": "Human", "assistant": "Assistant", "system": "System", "tool": "Tool"}
"""Roles as the transcripts of HH name them (Bai et al. 2022); it has the first two."""


def answer(text: str) -> Messages:
    """An answer as a chat of one message."""
    return [{"role": "assistant", "content": text}]


def transcript(messages: Messages) -> str:
    """A chat as HH writes it, each turn begun by an empty line and its speaker."""
    return "".join(f"\n\n{SPEAKERS.get(m['role'], m['role'].title())}: {m['content']}" for m in messages)


def plain(messages: Messages) -> str:
    """A prompt as text: what the user said where that is all, or else a transcript that asks for the next turn."""
    if len(messages) == 1 and messages[0]["role"] == "user":
        return messages[0]["content"]
    return transcript(messages) + "\n\nAssistant:" if messages else ""
