"""
What a call costs, in exact USD, or None when no price is known.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.classes import ModelRegistry

if TYPE_CHECKING:
    from llm_master.classes import ModelConfig, Usage

__all__ = ["Pricer"]

_MILLION = Decimal(1_000_000)


class Pricer(msgspec.Struct):
    """
    Prices one response when its cost is read; a call that nobody asks the price of pays nothing for it.

    Attributes:
        asked: the model name as the caller gave it.
        provider, model: who served it, under which name.
        at: UNIX time of the request in seconds; prices have dates.
        free: whether the provider costs nothing by nature (the embedded model).
        entry: what registry and settings said of the model when it was called, None for nothing.
    """

    asked: str
    provider: str
    model: str
    at: float
    free: bool = False
    entry: ModelConfig | None = None

    def __call__(self, usage: Usage) -> Decimal | None:
        """The cost in USD; None when no source knows the model, never 0 for that."""
        config = self.entry or ModelRegistry.get_config(self.asked) or ModelRegistry.get_config(self.model)
        if config is not None and config.input_price_per_million is not None:
            return _from_config(usage, config)
        if self.free:
            return Decimal(0)
        return _from_catalogue(usage, self.provider, self.model, self.at)


def _rate(value: float | None, otherwise: Decimal) -> Decimal:
    # str() first: the shortest decimal that names the float is what the user wrote.
    return otherwise if value is None else Decimal(str(value))


def _from_config(usage: Usage, config: ModelConfig) -> Decimal | None:
    if config.output_price_per_million is None and usage.output_tokens:
        return None
    plain = _rate(config.input_price_per_million, Decimal(0))
    cached = min(usage.cached_tokens, usage.input_tokens)
    # A registry entry has no price of its own for cache writes: they are input at the plain price.
    total = (usage.input_tokens - cached) * plain + cached * _rate(config.cached_input_price_per_million, plain)
    total += usage.output_tokens * _rate(config.output_price_per_million, Decimal(0))
    return total / _MILLION


def _from_catalogue(usage: Usage, provider: str, model: str, at: float) -> Decimal | None:
    from datetime import UTC, datetime

    import genai_prices

    tokens: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
    }
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**{name: count for name, count in tokens.items() if count}),
            model_ref=model,
            provider_id=_CATALOGUE_IDS.get(provider, provider),
            genai_request_timestamp=datetime.fromtimestamp(at, UTC),
        )
    except (LookupError, ValueError):
        return None
    return found.total_price


# Provider keys that the price catalogue spells differently (genai-prices 0.2.3, checked 2026-11-21).
_CATALOGUE_IDS = {
    "xai": "x-ai",
    **dict.fromkeys(("gemini", "gemini_openai", "vertex"), "google"),
    "bedrock": "aws",
    "foundry": "azure",
    "moonshot": "moonshotai",
    "voyage": "voyageai",
}
