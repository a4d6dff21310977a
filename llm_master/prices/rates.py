"""
The prices of one moment, one tier and one place, as whole numbers, and what a usage costs by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.money import EXACT, grains, money

if TYPE_CHECKING:
    from llm_master.classes import Usage

__all__ = ["PER", "Bill", "Rates", "charge", "compiled"]

_MILLION = 1_000_000
_THOUSAND = 1000
_HOUR = 3600

#: Key of a price that is not for tokens -> the thing that is counted, and for how many of them the price is.
PER: dict[str, tuple[str, int]] = {
    "input_audio_hours": ("audio_seconds", _HOUR),
    "audio_hours": ("audio_seconds", _HOUR),
    "output_audio_hours": ("output_audio_seconds", _HOUR),
    "input_mchars": ("characters", _MILLION),
    "input_text_messages_kcount": ("messages", _THOUSAND),
    "input_document_kpages": ("pages", _THOUSAND),
    "input_annotated_document_kpages": ("annotated_pages", _THOUSAND),
    "input_gpixels": ("input_pixels", 10**9),
    "rerank_searches_kcount": ("search_units", _THOUSAND),
    "web_searches_kcount": ("web_searches", _THOUSAND),
    "social_searches_kcount": ("social_searches", _THOUSAND),
    "storage_searches_kcount": ("file_searches", _THOUSAND),
    "code_executions_kcount": ("code_executions", _THOUSAND),
    "images": ("images", 1),
    "vectors": ("vectors", 1),
    "megapixels": ("megapixels", 1),
    "containers": ("containers", 1),
}
_REQUESTS = "requests_kcount"
#: What measures an answer as a whole.
_SIZES = frozenset(("images", "megapixels", "vectors", "audio_seconds", "output_audio_seconds", "characters"))
# Kinds of output with prices of their own that no usage here counts.
_UNCOUNTED = {"output_citation_mtok": "citation tokens", "output_video_mtok": "video tokens"}
_ODD = "a usage whose parts do not fit the whole"
_NO_COUNT = "a usage that is no count of tokens"
#: Tokens of one request that nobody can believe; what fewer cost fits into a column of picodollars.
_TOO_MANY = 10**10


class Rates(msgspec.Struct, frozen=True, gc=False):
    """
    Grains a token (see ``money``) and of each thing that is counted besides.

    Attributes:
        plain: input that was neither read from a cache nor written to it; None: not known.
        cached, written, written_long: cache reads, writes, and writes that are kept for an hour or longer.
        audio, image, cached_audio, cached_image: input of these kinds.
        mixed: whether sound or images have another price than text, so that they are counted apart.
        output: None: not known; reasoning, output_audio, output_image: parts of it.
        split: whether a part of the output has a price of its own.
        request: grains of one request.
        items: thing -> grains and for how many of them.
        least: thing -> what is billed at least.
        uncounted: parts that have a price of their own and no count.
    """

    plain: int | None = None
    cached: int = 0
    written: int = 0
    written_long: int = 0
    audio: int = 0
    image: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    mixed: bool = False
    output: int | None = None
    reasoning: int = 0
    output_audio: int = 0
    output_image: int = 0
    split: bool = False
    request: int = 0
    items: dict[str, tuple[int, int]] = {}
    least: dict[str, int] = {}
    uncounted: tuple[str, ...] = ()

    @property
    def prices_tokens(self) -> bool:
        """Whether tokens of any kind have a price."""
        return self.plain is not None or self.output is not None

    @property
    def is_nothing(self) -> bool:
        """Whether tokens of every kind cost nothing, however many there were."""
        dearest = max(self.cached, self.written, self.written_long, self.audio, self.image, self.reasoning)
        return self.plain == self.output == dearest == self.output_audio == self.output_image == 0


class Bill(msgspec.Struct, gc=False):
    """Grains of a usage, and what of it has no known price."""

    input: int
    output: int
    items: int
    missing: list[str]


def compiled(prices: Mapping[str, Decimal], *, least: Mapping[str, int] | None = None) -> Rates:
    """Rates of prices by key; a part without a price of its own has that of the whole."""

    def rate(key: str, otherwise: int) -> int:
        found = prices.get(key)
        return otherwise if found is None else grains(found.scaleb(-6, EXACT))

    known_input, known_output = prices.get("input_mtok"), prices.get("output_mtok")
    plain = rate("input_mtok", 0)
    # A missing price of cache reads is the plain one, and so is one of writes: nobody has said that they cost less.
    cached, written = rate("cache_read_mtok", plain), rate("cache_write_mtok", plain)
    audio, image = rate("input_audio_mtok", plain), rate("input_image_mtok", plain)
    output = rate("output_mtok", 0)
    parts = {name: rate(f"output_{name}_mtok", output) for name in ("reasoning", "audio", "image")}
    items = {name: (grains(prices[key]), per) for key, (name, per) in PER.items() if key in prices}
    return Rates(
        plain=None if known_input is None else plain,
        cached=cached,
        written=written,
        written_long=rate("cache_write_1h_mtok", written),
        audio=audio,
        image=image,
        cached_audio=rate("cache_audio_read_mtok", cached if audio == plain else min(cached, audio)),
        cached_image=rate("cache_image_read_mtok", cached if image == plain else min(cached, image)),
        mixed=audio != plain or image != plain,
        output=None if known_output is None else output,
        reasoning=parts["reasoning"],
        output_audio=parts["audio"],
        output_image=parts["image"],
        split=any(each != output for each in parts.values()),
        request=grains(prices[_REQUESTS].scaleb(-3, EXACT)) if _REQUESTS in prices else 0,
        items=items,
        least=dict(least or {}),
        uncounted=tuple(name for key, name in _UNCOUNTED.items() if key in prices),
    )


def charge(rates: Rates, usage: Usage, counted: Mapping[str, Any] | None = None) -> Bill:
    """
    What a usage costs.

    Args:
        counted: what was counted besides tokens, by name (``images``, ``audio_seconds``).
    """
    missing: list[str] = []
    if not _is_counted(usage):
        usage = _whole(usage)
        missing.append(_NO_COUNT)
    if not rates.prices_tokens and _billed_else(rates, counted):
        # Where seconds or pieces are billed, tokens are only told.
        spent = output = 0
    else:
        spent = _input(rates, usage, missing)
        output = _output(rates, usage, missing)
    items = rates.request
    if usage.web_searches:
        items += _item(rates, "web_searches", usage.web_searches, missing)
    if counted:
        items += _counted(rates, usage, counted, missing)
    if rates.uncounted:
        missing.extend(rates.uncounted)
    return Bill(spent, output, items, missing)


def _is_counted(usage: Usage) -> bool:
    """Whether all counts are whole numbers of a size that can be; a negative one is left to those who add up."""
    try:
        total = (
            usage.input_tokens
            + usage.output_tokens
            + usage.cached_tokens
            + usage.cache_write_tokens
            + usage.cache_write_1h_tokens
            + usage.reasoning_tokens
            + usage.input_audio_tokens
            + usage.output_audio_tokens
            + usage.input_image_tokens
            + usage.output_image_tokens
        )
    except TypeError:
        return False
    return type(total) is int and total < _TOO_MANY


def _whole(usage: Usage) -> Usage:
    """The same without what is no count."""
    found = msgspec.structs.replace(usage)
    for name in usage.__struct_fields__:
        count = getattr(usage, name)
        if name.endswith("_tokens") and not (type(count) is int and count < _TOO_MANY):
            setattr(found, name, 0)
    return found


def _counted(rates: Rates, usage: Usage, counted: Mapping[str, Any], missing: list[str]) -> int:
    # The same answer can be counted in tokens, pieces and pixels: one of them sets its price.
    measured = any(name in rates.items for name in _SIZES & counted.keys())
    measured = measured or (rates.prices_tokens and usage.total_tokens > 0)
    spent = 0
    for name, count in counted.items():
        if measured and name in _SIZES and name not in rates.items:
            continue
        spent += _item(rates, name, count, missing)
    return spent


def _input(rates: Rates, usage: Usage, missing: list[str]) -> int:
    given, cached = usage.input_tokens, usage.cached_tokens
    written, long = usage.cache_write_tokens, usage.cache_write_1h_tokens
    if cached or written or long or given < 0:
        given, cached, written, long = _sound((given, cached, written, long), missing)
    if rates.plain is None:
        if given:
            missing.append("input tokens")
        return 0
    if rates.mixed and (usage.input_audio_tokens or usage.input_image_tokens):
        return _mixed_input(rates, usage, (given, cached, written, long), missing)
    if not cached and not written:
        return given * rates.plain
    spent = (given - cached - written) * rates.plain + cached * rates.cached
    return spent + (written - long) * rates.written + long * rates.written_long


def _output(rates: Rates, usage: Usage, missing: list[str]) -> int:
    made = usage.output_tokens
    if made < 0:
        missing.append(_ODD)
        made = 0
    if rates.output is None:
        if made:
            missing.append("output tokens")
        return 0
    return _split_output(rates, usage, made, missing) if rates.split else made * rates.output


def _billed_else(rates: Rates, counted: Mapping[str, Any] | None) -> bool:
    """Whether something else than tokens sets the price."""
    return any(name in rates.items for name in counted or ())


def _sound(counts: tuple[int, int, int, int], missing: list[str]) -> tuple[int, int, int, int]:
    """Input, cache reads, writes and long writes so that no part is larger than its whole; what did not fit is told."""
    given, cached, written, long = counts
    whole = max(given, 0)
    read = min(max(cached, 0), whole)
    kept = min(max(written, long, 0), whole - read)
    found = (whole, read, kept, min(max(long, 0), kept))
    if found != counts:
        missing.append(_ODD)
    return found


def _mixed_input(rates: Rates, usage: Usage, counts: tuple[int, int, int, int], missing: list[str]) -> int:
    """
    Input of which sound or images have a price of their own.

    No provider says which of these were in the cache, so text is taken first; where that changes the sum, it is told.
    """
    given, cached, written, long = counts
    plain = rates.plain or 0
    audio = min(max(usage.input_audio_tokens, 0), given)
    image = min(max(usage.input_image_tokens, 0), given - audio)
    if (audio, image) != (usage.input_audio_tokens, usage.input_image_tokens):
        missing.append(_ODD)
    text = given - audio - image
    spent, left = 0, {"read": cached, "written": written}
    for count, rate, read in (
        (text, plain, rates.cached),
        (audio, rates.audio, rates.cached_audio),
        (image, rates.image, rates.cached_image),
    ):
        of_read = min(count, left["read"])
        of_written = min(count - of_read, left["written"])
        left["read"] -= of_read
        left["written"] -= of_written
        spent += of_read * read + (count - of_read - of_written) * rate
    spent += (written - long) * rates.written + long * rates.written_long
    saved = {plain - rates.cached}
    saved |= {rates.audio - rates.cached_audio} if audio else set()
    saved |= {rates.image - rates.cached_image} if image else set()
    if cached and (text or (audio and image)) and len(saved) > 1:
        missing.append("which of the cached tokens were sound or images")
    return spent


def _split_output(rates: Rates, usage: Usage, made: int, missing: list[str]) -> int:
    rest, spent = made, 0
    output = rates.output or 0
    for count, rate in (
        (usage.output_audio_tokens, rates.output_audio),
        (usage.output_image_tokens, rates.output_image),
        (usage.reasoning_tokens, rates.reasoning),
    ):
        if count and rate != output:
            part = min(max(count, 0), rest)
            if part != count:
                missing.append(_ODD)
            rest -= part
            spent += part * rate
    return spent + rest * output


def _item(rates: Rates, name: str, count: Any, missing: list[str]) -> int:
    if count == 0:
        return 0
    amount = money(count)
    price = rates.items.get(name)
    if price is None or amount is None:
        missing.append(name.replace("_", " "))
        return 0
    least = rates.least.get(name)
    if least is not None and amount < least:
        amount = Decimal(least)
    top, bottom = amount.as_integer_ratio()
    cost, per = price
    # To the nearest grain, as anywhere.
    whole, rest = divmod(cost * top, per * bottom)
    return whole + (2 * rest >= per * bottom)
