"""
Which tokenizer which models have, as data.
"""

from __future__ import annotations

import os

import msgspec

from llm_master.built import build

__all__ = ["Tokenizer", "load_tokenizers"]

_FILE = f"{os.path.dirname(__file__)}/tokenizers.json"  # noqa: PTH120  # as the package


class Tokenizer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The vocabulary of some models.

    Attributes:
        encoding: its name in ``tiktoken`` and ``bpe-openai``.
        models: names as ``tokenizer.tokenizer_of`` reads them.
        per_message: tokens around a message beside its role and text; None: the model takes texts without roles.
        per_name: tokens around a message's ``name``; None: it is not known how a name is written.
        per_request: tokens before the answer.
        source, checked: where this is said and the day it was checked.
    """

    encoding: str
    models: tuple[str, ...]
    per_message: int | None = None
    per_name: int | None = None
    per_request: int = 0
    source: str
    checked: str


def load_tokenizers() -> tuple[Tokenizer, ...]:
    """The vocabularies of models; read anew at each call."""
    build(Tokenizer)
    with open(_FILE, "rb") as file:  # noqa: PTH123  # as the package
        return msgspec.json.decode(file.read(), type=tuple[Tokenizer, ...])
