"""
Tokens counted on this machine: by the model's own tokenizer where it is known, else by the characters.

The tokenizers are those of ``bpe-openai`` (the extra ``tokenizer``), whose vocabularies are inside the package; nothing
is downloaded. Which model has which is data, ``catalogue/tokenizers.json``.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from llm_master.answers import TokenCount
from llm_master.catalogue.tokenizers import Tokenizer, load_tokenizers
from llm_master.policy.estimate import estimate_input

__all__ = ["count_here", "pieces_of", "tokenizer_of", "way_of"]

#: Characters that are counted in one step; the package holds all other threads up for as long as a step takes.
LONGEST = 50_000
# Where a text may be cut so that its pieces have as many tokens as the whole: both vocabularies split before a line's
# first letter, and before a single space between two words.
_CUT = re.compile(r"(?<=\n)(?=[A-Za-z])|(?<=[A-Za-z])(?= [A-Za-z])")
_UNKNOWN = "no tokenizer is known for this model"
_NOT_INSTALLED = "the model's tokenizer is not installed: pip install 'llm-master[tokenizer]'"
_OTHER_PARTS = "media, tools and parameters have no tokens of a text alone"
_NOT_SPLIT = "a text without words of Latin letters is too long to be counted in steps"

_locks = [threading.Lock()]
_loaded: dict[str, Any] = {}


def _after_fork() -> None:
    # Another thread may have been loading, and its lock would never open here.
    _locks[0] = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


async def count_here(messages: list[dict[str, Any]], params: dict[str, Any], model: str) -> TokenCount:
    """
    Tokens of messages for a model, by its tokenizer if that is here, else an estimate on the high side.

    The tokenizer is loaded once, and used, on a thread.
    """
    tokenizer, texts = _countable(messages, params, model)
    if texts is None or tokenizer is None:
        return _estimate(messages, params, model, _UNKNOWN if tokenizer is None else _OTHER_PARTS)
    try:
        tokens = await asyncio.to_thread(_count, tokenizer.encoding, texts)
    except ImportError:
        return _estimate(messages, params, model, _NOT_INSTALLED)
    if tokens is None:
        return _estimate(messages, params, model, _NOT_SPLIT)
    names = sum("name" in message for message in messages)
    tokens += len(messages) * (tokenizer.per_message or 0) + names * (tokenizer.per_name or 0) + tokenizer.per_request
    return TokenCount(tokens, "tokenizer", model, tokenizer.encoding)


def way_of(messages: list[dict[str, Any]], params: dict[str, Any], model: str) -> tuple[str, str]:
    """How ``count_here`` would count, told without loading a tokenizer: ``source`` and ``detail`` of its answer."""
    from importlib.util import find_spec

    tokenizer, texts = _countable(messages, params, model)
    if tokenizer is None or texts is None:
        return "estimate", _UNKNOWN if tokenizer is None else _OTHER_PARTS
    return ("tokenizer", tokenizer.encoding) if find_spec("bpe_openai") else ("estimate", _NOT_INSTALLED)


def _countable(
    messages: list[dict[str, Any]], params: dict[str, Any], model: str
) -> tuple[Tokenizer | None, list[str] | None]:
    """A model's tokenizer, and the texts that it would count; None for what there is not."""
    tokenizer = tokenizer_of(model)
    return tokenizer, None if params or tokenizer is None else _only_texts(messages, tokenizer)


def _estimate(messages: list[dict[str, Any]], params: dict[str, Any], model: str, why: str) -> TokenCount:
    return TokenCount(estimate_input(messages, params), "estimate", model, why)


@cache
def tokenizer_of(model: str) -> Tokenizer | None:
    """
    The tokenizer of a model, None when none is known.

    A maker before the name (``openai/gpt-oss-120b``) and ``ft:`` are left out of account. A name in the data stands for
    itself and what follows it after ``-`` or ``:``; one with ``*`` for all that begin so. The longest one counts.
    """
    name = model.rpartition("/")[2].lower().removeprefix("ft:")
    found: tuple[int, Tokenizer] | None = None
    for tokenizer in load_tokenizers():
        for known in tokenizer.models:
            stem = known.removesuffix("*")
            fits = name.startswith(stem) and (stem != known or name[len(stem) : len(stem) + 1] in ("", "-", ":"))
            if fits and (found is None or len(stem) > found[0]):
                found = len(stem), tokenizer
    return None if found is None else found[1]


def _only_texts(messages: list[dict[str, Any]], tokenizer: Tokenizer) -> list[str] | None:
    """Every text that the messages are for a model, None when they hold something else."""
    known = {"role", "content"} if tokenizer.per_name is None else {"role", "content", "name"}
    found: list[str] = []
    for message in messages:
        content = message.get("content")
        if message.keys() - known:
            return None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if any(part.get("type") != "text" for part in parts):
            return None
        if tokenizer.per_message is not None:
            found += [message["role"], *([message["name"]] if "name" in message else [])]
        found += [part["text"] for part in parts]
    return found


def _count(encoding: str, texts: list[str]) -> int | None:
    """Tokens of all texts together, None when one cannot be counted."""
    loaded = _load(encoding)
    tokens = 0
    for text in texts:
        for piece in pieces_of(text):
            if piece is None:
                return None
            tokens += len(loaded.encode_ordinary(piece))
    return tokens


def _load(encoding: str) -> Any:
    # Two calls at once must not load it twice: it takes a second and 150 MB.
    with _locks[0]:
        if encoding not in _loaded:
            # It reads its files in a way that Python 3.11 and 3.12 warn of, which must not be an error where those are.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"bpe_openai\.")
            import bpe_openai  # type: ignore[import-untyped]  # it has no types

            _loaded[encoding] = bpe_openai.get_encoding(encoding)
        return _loaded[encoding]


def pieces_of(text: str, longest: int = LONGEST) -> Iterator[str | None]:
    """A text in pieces that have as many tokens together as the whole; None at its end: there is no such place."""
    start = 0
    while len(text) - start > longest:
        cut = None
        # Backwards in small windows: the last place before the bound is near it in nearly every text.
        for end in range(start + longest, start, -1_000):
            places = [found.start() for found in _CUT.finditer(text, max(start + 1, end - 1_000), end + 1)]
            if places:
                cut = places[-1]
                break
        if cut is None:
            yield None
            return
        yield text[start:cut]
        start = cut
    yield text[start:]
