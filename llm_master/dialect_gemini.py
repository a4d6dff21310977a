"""
How a server speaks ``gemini``, and what its models take, as data.

Sources, read 2026-11-21: ai.google.dev/gemini-api/docs (thinking, thought-signatures, function-calling,
tool-combination, structured-output, file-input-methods, long-decode), docs.cloud.google.com model pages, google-genai
3.4.0, and the issues of googleapis/python-genai and js-genai for what the API refuses in practice.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from llm_master.built import build
from llm_master.media import MediaRule

__all__ = ["MODELS", "GeminiDialect", "GeminiModel"]

_RESULT_MEDIA = ("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain")


class GeminiModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What one model takes; the defaults are those of the newest generation, and hold for names that nobody knows yet.

    Attributes:
        thinking: ``level`` (``thinkingLevel``), ``budget`` (``thinkingBudget``), or ``none``.
        levels: thinking levels, weakest first, lower case.
        budget: the least and the most tokens of a thinking budget.
        can_rest: whether ``thinkingBudget: 0`` switches thinking off.
        signatures: whether a function call in the history needs a thought signature.
        sampling: whether temperature, topP and topK have an effect.
        penalties: whether presencePenalty and frequencyPenalty are accepted.
        logprobs: whether responseLogprobs is accepted.
        candidates: the most answers to one request.
        prefill: whether the model goes on with a model turn that stands last; others reject the request.
        system: whether ``systemInstruction`` is accepted; else its text leads the first user turn.
        functions: whether function declarations are accepted.
        validated: whether the function calling mode VALIDATED is known, which holds calls to their schemas.
        json: whether JSON can be asked for; else the prompt asks for it.
        json_schema: whether schemas are sent as JSON Schema (``parametersJsonSchema``, ``responseJsonSchema``); else in
            the OpenAPI subset (``parameters``, ``responseSchema``).
        combination: whether functions go together with JSON output and with Google's own tools.
        result_media: mime types that a function's result may hold; others follow it in a turn of the user.
        part_resolution: whether a single part may set its media resolution.
        urls: whether the server fetches an http(s) address.
        explicit_cache: whether ``cachedContent`` is accepted.
        searches_per_prompt: whether grounding is billed once a prompt instead of once a query.
    """

    thinking: Literal["level", "budget", "none"] = "level"
    levels: tuple[Literal["minimal", "low", "medium", "high", "xhigh"], ...] = ("low", "medium", "high")
    budget: tuple[int, int] = (1, 24_576)
    can_rest: bool = False
    signatures: bool = True
    sampling: bool = True
    penalties: bool = False
    logprobs: bool = False
    candidates: int = 1
    prefill: bool = False
    system: bool = True
    functions: bool = True
    validated: bool = True
    json: bool = True
    json_schema: bool = True
    combination: bool = True
    result_media: tuple[str, ...] = _RESULT_MEDIA
    part_resolution: bool = True
    urls: bool = True
    explicit_cache: bool = True
    searches_per_prompt: bool = False


_FULL = ("minimal", "low", "medium", "high")
_BEFORE_3: dict[str, Any] = {
    "signatures": False,
    "candidates": 8,
    "prefill": True,
    "combination": False,
    "result_media": (),
    "part_resolution": False,
    "searches_per_prompt": True,
}
_BEFORE_25: dict[str, Any] = {
    **_BEFORE_3,
    "thinking": "none",
    "penalties": True,
    "logprobs": True,
    "validated": False,
    "json_schema": False,
    "urls": False,
}

#: Part of a model's name -> the fields of ``GeminiModel`` that differ for it. All that occur in a name apply, in this
#: order, so that later ones win. A part counts where no digit follows it.
MODELS: dict[str, dict[str, Any]] = {
    "gemini-1": _BEFORE_25,
    "gemini-2.0": _BEFORE_25,
    "learnlm": _BEFORE_25,
    # Penalties and logprobs: 400 "is not enabled for models/gemini-2.5-..." (google-gemini/cookbook#1290,
    # vercel/ai#5418); the ranges of budgets are those of docs/thinking.
    "gemini-2.5": {**_BEFORE_3, "thinking": "budget", "can_rest": True},
    "gemini-2.5-pro": {"budget": (128, 32_768), "can_rest": False},
    "gemini-2.5-flash-lite": {"budget": (512, 24_576)},
    "gemini-2.5-flash-image": {"thinking": "none", "json": False, "candidates": 1},
    "gemini-3-pro": {"levels": ("low", "high"), "prefill": True},
    "gemini-3-flash": {"levels": _FULL, "prefill": True},
    "gemini-3.1": {"levels": _FULL, "prefill": True},
    "gemini-3.1-pro": {"levels": ("low", "medium", "high")},
    "gemini-3.1-flash-image": {"levels": ("minimal", "high")},
    "gemini-3.1-flash-lite-image": {"levels": ("minimal", "high")},
    # A model turn at the end: 400 on 3.5 Flash-Lite, 3.6, 3.7 and 3.8 Flash, accepted by 3.5 Flash and older ones
    # (anomalyco/opencode#47034, the model page of 3.5 Flash-Lite); sampling parameters are ignored from there on.
    "gemini-3.5": {"levels": _FULL, "prefill": True},
    "gemini-3.5-flash-lite": {"sampling": False, "prefill": False},
    "gemini-3.6": {"levels": _FULL, "sampling": False},
    "gemini-3.7": {"sampling": False},
    "gemini-3.8": {"sampling": False},
    "gemini-4": {"sampling": False, "explicit_cache": False},
    # The image models do not enforce signatures; those that came are given back all the same.
    "-image": {"functions": False, "validated": False, "signatures": False, "prefill": False},
    # "Developer instruction is not enabled for this model" (lfnovo/esperanto#198, 0xPlaygrounds/rig#788).
    "-tts": {
        "thinking": "none",
        "system": False,
        "functions": False,
        "validated": False,
        "json": False,
        "prefill": False,
    },
    "gemma": {**_BEFORE_3, "candidates": 1, "thinking": "none", "validated": False, "urls": False},
    "gemma-3": {"system": False, "functions": False, "json": False, "json_schema": False},
}


class GeminiDialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``gemini``; the defaults are those of generativelanguage.googleapis.com.

    Attributes:
        models: as ``MODELS``, applied after it.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        drop: parameters that this server cannot take.
        files: the address before the id of an uploaded file (``files/abc``); empty where there is no such store.
        tool_invocations: whether ``includeServerSideToolInvocations`` is known, which combined tools need.
        service_tiers: the values of ``serviceTier``; none where a header chooses the tier.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        most_stops: how many stop sequences are accepted.
    """

    models: dict[str, dict[str, Any]] = {}
    clamp: dict[str, tuple[float, float]] = msgspec.field(
        default_factory=lambda: {
            "temperature": (0.0, 2.0),
            "presence_penalty": (-2.0, 2.0),
            "frequency_penalty": (-2.0, 2.0),
        }
    )
    defaults: dict[str, Any] = {}
    drop: frozenset[str] = frozenset()
    files: str = "https://generativelanguage.googleapis.com/v1beta/"
    tool_invocations: bool = True
    service_tiers: tuple[str, ...] = ("flex", "standard", "priority")
    media: dict[str, MediaRule] = {}
    most_stops: int = 5

    def __post_init__(self) -> None:
        for fields in self.models.values():
            msgspec.convert(fields, GeminiModel)

    def model(self, name: str) -> GeminiModel:
        """What the model of this name takes, without regard to case."""
        name = name.lower()
        fields: dict[str, Any] = {}
        for table in (MODELS, self.models):
            for part, differing in table.items():
                if re.search(re.escape(part) + r"(?!\d)", name):
                    fields.update(differing)
        return msgspec.convert(fields, GeminiModel)


build(GeminiModel, GeminiDialect)
