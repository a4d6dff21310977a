"""
Tokens counted on this machine: by the model's own tokenizer where it is here, else by the characters.

Nothing is downloaded. ``tiktoken`` is used if it is installed and keeps the model's file in its folder
(``TIKTOKEN_CACHE_DIR``, ``DATA_GYM_CACHE_DIR`` or ``data-gym-cache`` among the temporary files); the file's SHA-256 is
compared first, because ``tiktoken`` would load a wrong one anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from llm_master.answers import TokenCount
from llm_master.policy.estimate import estimate_input

__all__ = ["count_here", "tokenizer_file"]

_HOST = "https://openaipublic.blob.core.windows.net/encodings/"
# Encoding -> SHA-256 of its file (tiktoken 0.12, tiktoken_ext/openai_public.py, read 2026-11-21).
_FILES = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
# What the chat format puts around a message, and before the answer, in tokens of these encodings
# (https://github.com/openai/openai-cookbook, How_to_count_tokens_with_tiktoken, read 2026-11-21).
_PER_MESSAGE, _PER_REQUEST = 3, 3


def count_here(messages: list[dict[str, Any]], params: dict[str, Any], model: str) -> TokenCount:
    """Tokens of messages for a model, by its tokenizer if it is on this machine, else an estimate on the high side."""
    texts = None if params else _only_texts(messages)
    encoding = None if texts is None else _encoding(model)
    if encoding is None or texts is None:
        return TokenCount(estimate_input(messages, params), "estimate", model)
    tokens = sum(len(encoding.encode(text, disallowed_special=())) for text in texts)
    return TokenCount(tokens + len(messages) * _PER_MESSAGE + _PER_REQUEST, "tokenizer", model)


def _only_texts(messages: list[dict[str, Any]]) -> list[str] | None:
    """Every text of the messages, None when they hold something else: media and tools have no tokens of a text."""
    found = []
    for message in messages:
        content = message.get("content")
        if message.keys() - {"role", "content"}:
            return None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if any(part.get("type") != "text" for part in parts):
            return None
        found += [message["role"], *(part["text"] for part in parts)]
    return found


@cache
def _encoding(model: str) -> Any:
    try:
        import tiktoken  # type: ignore[import-not-found]  # an optional package without types here
    except ImportError:
        return None
    try:
        # Hosts put the maker before the model's own name.
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return None
    return tiktoken.get_encoding(name) if tokenizer_file(name) is not None else None


def tokenizer_file(encoding: str) -> Path | None:
    """The file of an encoding in tiktoken's folder, None when it is not there or not the right one."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    expected = _FILES.get(encoding)
    if expected is None:
        return None
    # The name that tiktoken gives it: the SHA-1 of its address.
    name = hashlib.sha1(f"{_HOST}{encoding}.tiktoken".encode(), usedforsecurity=False).hexdigest()
    file = Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name
    try:
        return file if hashlib.sha256(file.read_bytes()).hexdigest() == expected else None
    except OSError:
        return None
