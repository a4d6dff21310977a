"""
How one server speaks Cohere's chat API, and what its models take, as data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from llm_master.built import build
from llm_master.media import MediaRule
from llm_master.per_model import PerWord, by_model

__all__ = ["CohereDialect", "cohere_profile"]


class CohereDialect(PerWord, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``cohere``; the defaults are those of the newest Command model, which an unknown one gets.

    A pattern of ``per_model`` is a part of a model's name, lower case, that no letter or digit touches: ``command-r``
    is in ``command-r-08-2024`` and not in ``command-r7b``.

    Attributes:
        thinking: whether the model can reason (``thinking``).
        images: whether it takes images.
        tools: whether it takes tools; tool_choice: whether it can be forced to call one, or kept from it.
        strict_tools: whether ``strict_tools`` is known.
        native_schema: whether ``response_format`` is known; the others get a forced tool for a schema.
        safety_modes: what it takes as ``safety_mode``.
        budgets: reasoning effort -> tokens to think with, weakest first; None: no limit.
        answer_tokens: tokens of ``max_tokens`` that a budget leaves for the answer.
        most_stops: stop sequences that are taken.
        rename: parameter -> the name this server wants.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        drop: parameters that this server cannot take.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        per_model: pattern -> fields that replace these for the models it matches; a longer pattern beats a shorter one.
    """

    thinking: bool = True
    images: bool = True
    tools: bool = True
    tool_choice: bool = True
    strict_tools: bool = True
    native_schema: bool = True
    safety_modes: tuple[str, ...] = ("CONTEXTUAL", "STRICT")
    budgets: dict[str, int | None] = msgspec.field(
        default_factory=lambda: {
            "minimal": 512,
            "low": 2048,
            "medium": 8192,
            "high": 16384,
            "xhigh": 31000,
            "max": None,
        }
    )
    answer_tokens: int = 1024
    most_stops: int = 5
    rename: dict[str, str] = msgspec.field(default_factory=lambda: {"top_p": "p", "top_k": "k"})
    clamp: dict[str, tuple[float, float]] = msgspec.field(
        default_factory=lambda: {
            "temperature": (0.0, 1.0),
            "p": (0.01, 0.99),
            "k": (0.0, 500.0),
            "frequency_penalty": (0.0, 1.0),
            "presence_penalty": (0.0, 1.0),
        }
    )
    defaults: dict[str, Any] = {}
    drop: frozenset[str] = frozenset()
    media: dict[str, MediaRule] = {}


cohere_profile: Callable[[CohereDialect, str], CohereDialect] = by_model(CohereDialect.for_model)
"""The dialect for a model, made once."""


build(CohereDialect)
