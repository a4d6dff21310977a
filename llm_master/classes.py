"""
The nouns: what a call takes and what it brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from llm_master.errors import ToolArgumentsError
from llm_master.late import pricing, whole_cost
from llm_master.pictures import Image, saving

if TYPE_CHECKING:
    import os
    from decimal import Decimal
    from pathlib import Path

    from llm_master.cost import Cost

__all__ = [
    "Attempt",
    "BaseLLMProvider",
    "Image",
    "LLMResponse",
    "ModelConfig",
    "ModelRegistry",
    "Request",
    "ToolCall",
    "Usage",
]


class Usage(msgspec.Struct, kw_only=False):
    """
    Tokens of one call, normalised over all API families.

    ``input_tokens`` is the whole input including cache reads and writes, ``output_tokens`` the whole output including
    reasoning; the other token fields are parts of these two. ``estimated`` says that the provider did not tell all of
    it (the request was cut off or cancelled) and the rest was counted here.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in self.__struct_fields__ if getattr(self, name))
        return f"Usage({counts})"

    def __add__(self, other: Usage) -> Usage:
        total = Usage(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))
        total.estimated = self.estimated or other.estimated
        return total


class ToolCall:
    """
    One call of a tool that a model asks for.

    Args:
        id: the provider's id of the call; the tool's result refers to it.
        name: the tool's name.
        arguments: the arguments as a dict; or
        raw_arguments: their JSON text, parsed when ``arguments`` is read.
        extra: fields that the provider wants back unchanged (Gemini's signature), else None.
    """

    __slots__ = ("_arguments", "extra", "id", "name", "raw_arguments")

    def __init__(
        self,
        id: str,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        raw_arguments: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.name = name
        self._arguments = arguments
        self.extra = extra
        self.raw_arguments: str = (
            raw_arguments if raw_arguments is not None else msgspec.json.encode(arguments or {}).decode()
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """
        The arguments as a dict; an empty text means no arguments.

        Raises:
            ToolArgumentsError: the text is not a JSON object; the error holds it.
        """
        if self._arguments is None:
            text = self.raw_arguments.strip()
            try:
                value = msgspec.json.decode(text) if text else {}
            except (ValueError, RecursionError) as error:
                raise ToolArgumentsError(
                    f"arguments of tool call {self.name!r} are not JSON ({error}); read raw_arguments or ask again",
                    raw_arguments=self.raw_arguments,
                ) from error
            if not isinstance(value, dict):
                raise ToolArgumentsError(
                    f"arguments of tool call {self.name!r} are JSON but not an object; read raw_arguments or ask again",
                    raw_arguments=self.raw_arguments,
                )
            self._arguments = value
        return self._arguments

    def to_dict(self) -> dict[str, Any]:
        """The call as it stands in an assistant message of the chat format."""
        entry: dict[str, Any] = {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.raw_arguments},
        }
        if self.extra:
            entry.update(self.extra)
        return entry

    def __repr__(self) -> str:
        return f"ToolCall(id={self.id!r}, name={self.name!r}, raw_arguments={self.raw_arguments!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ToolCall):
            return NotImplemented
        return (self.id, self.name, self.raw_arguments, self.extra) == (
            other.id,
            other.name,
            other.raw_arguments,
            other.extra,
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value


class Attempt(msgspec.Struct):
    """
    One request that a call made, successful or not.

    Times are seconds. ``started`` counts from the start of the call; ``waited`` is how long the attempt stood still
    before it (back-off, rate limit) and ``wait_reason`` why. ``key_id`` names the key without showing it.
    ``outcome`` is ``ok``, ``error``, ``interrupted``, ``cancelled``, or ``skipped`` when nothing was sent because the
    target was cooling, a limit had no room, or the parameters do not suit it. ``deployment`` is None for the only one.
    ``usage`` is what this attempt used, as far as it is known; None where nothing was billed. ``cost`` is its price in
    USD, ``reported_cost`` what the provider itself said, None when it said nothing.
    ``bytes_sent`` and ``bytes_received`` are those of the bodies, decoded and without headers; 0 where a provider class
    of your own, or the SDK in it, sends the request.
    """

    provider: str
    model: str
    outcome: str = "ok"
    status_code: int | None = None
    error: str | None = None
    error_code: str | None = None
    started: float = 0.0
    latency: float = 0.0
    time_to_first_token: float | None = None
    waited: float = 0.0
    wait_reason: str | None = None
    key_id: str | None = None
    deployment: str | None = None
    request_id: str | None = None
    usage: Usage | None = None
    reported_cost: Any = None
    pricer: Any = None
    bytes_sent: int = 0
    bytes_received: int = 0

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__ if name != "pricer")
        return f"Attempt({', '.join(f'{name}={value!r}' for name, value in shown)})"

    @property
    def cost(self) -> Decimal | None:
        """USD; 0 where nothing was billed, None when no price is known."""
        if self.reported_cost is not None:
            return self.reported_cost  # type: ignore[no-any-return]  # a Decimal, typed Any to keep decimal unloaded
        if self.usage is None:
            from decimal import Decimal

            return Decimal(0)
        return None if self.pricer is None else self.pricer(self.usage)

    @property
    def cost_details(self) -> Cost | None:
        """The cost and what it is made of (see ``cost.Cost``); None when no price is known."""
        return pricing().attempt_cost(self)  # type: ignore[no-any-return]  # loaded late


class Request(msgspec.Struct):
    """
    One request as the wire families take it.

    ``messages`` are normalised (see ``messages.py``) and never changed; ``params`` hold the field's names of the chat
    format; ``headers`` are the caller's extra ones. The wire module writes what it left out into ``dropped``, and shows
    the parts of messages to ``guard`` (``guard.py``), which knows what the model reads, None: nobody; ``parts`` says
    that there are some. Who sends it notes the sizes of the bodies in ``bytes_sent`` and ``bytes_received``.
    """

    provider: str
    model: str
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    stream: bool = False
    drop_params: bool = False
    dropped: tuple[str, ...] = ()
    headers: dict[str, str] | None = None
    guard: Any = None
    bytes_sent: int = 0
    bytes_received: int = 0
    parts: bool = False

    def show(self, kind: Any) -> None:
        """Have the guard look at the type of a part; raises UnsupportedParameterError for one that cannot be read."""
        self.parts = True
        if self.guard is not None:
            self.guard.check_part(kind)


class LLMResponse(msgspec.Struct, weakref=True):
    """
    A model's answer and what it took to get it.

    A custom provider may build one with the first four fields only; LLM Master fills in the rest.

    Attributes:
        content: the text, ``""`` when there is none (an image model: the URL or base64 text).
        model_name: the name as asked; ``model``: as the provider served it; ``provider``: its key.
        usage: tokens of the whole call, normalised; those of its failed attempts included.
        call_id: the call's own id, under which the ledger keeps it, None without a ledger.
        latency: seconds from the call to the whole answer; ``time_to_first_token``: seconds, None without a stream.
        finish_reason: ``stop|length|tool_calls|content_filter|refusal|pause|context_window|error``.
        refusal: the model's own words when it refused, else None.
        attempts: every request the call made, oldest first.
        request_id: the provider's id of the request.
        dropped: parameters left out because the model cannot take them (``drop_params=True``).
        notes: what was unusual but harmless, such as a malformed chunk that was skipped.
        cached: whether the answer is one kept in the cache or shared with an equal call, so that it cost nothing.
        opaque: payloads that only the same family may see again (signatures, encrypted reasoning).
        reported_cost: USD that the provider itself reports, as a Decimal, else None.
        service_tier: the tier that the provider says it served, else None.
        billed: what the provider bills besides tokens, by name (``images``, ``file_searches``); a count of None is not
            known. ``geo``: where the provider says that it ran, where that has a price.
    """

    content: str = ""
    model_name: str = ""
    usage: Usage = msgspec.field(default_factory=Usage)
    latency: float = 0.0
    finish_reason: str | None = "stop"
    model: str | None = None
    provider: str | None = None
    time_to_first_token: float | None = None
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    reasoning: str | None = None
    refusal: str | None = None
    parsed: Any = None
    citations: list[Any] = msgspec.field(default_factory=list)
    images: list[Image] = msgspec.field(default_factory=list)
    audio_data: bytes | None = None
    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cached: bool = False
    opaque: dict[str, Any] | None = None
    reported_cost: Any = None
    service_tier: str | None = None
    raw_body: Any = None
    pricer: Any = None
    call_id: str | None = None
    billed: dict[str, Any] | None = None
    geo: str | None = None

    def __repr__(self) -> str:
        # Only what says something: the body and what is empty stay out.
        shown = ", ".join(
            f"{name}={value!r}"
            for name in self.__struct_fields__
            if name not in ("raw_body", "pricer", "opaque")
            and (value := getattr(self, name)) not in (None, [], ())
            and (name != "cached" or value)
        )
        return f"LLMResponse({shown})"

    @property
    def raw(self) -> Any:
        """The provider's own JSON, parsed; for a stream the list of its events, or None when it was not kept."""
        if isinstance(self.raw_body, bytes):
            try:
                self.raw_body = msgspec.json.decode(self.raw_body)
            except msgspec.DecodeError:
                import json

                # Python's own reader takes what servers should not send: NaN, halves of surrogate pairs.
                self.raw_body = json.loads(self.raw_body, strict=False)
        return self.raw_body

    @property
    def cost(self) -> Decimal | None:
        """
        USD of the whole call, its failed attempts included; None when no price is known.

        A provider's own figure is taken where it gives one. Where only a part has a price, it is that part.
        """
        return whole_cost(self)

    @property
    def cost_details(self) -> Cost | None:
        """What ``cost`` is made of, by which prices, and what has none; None where ``cost`` is. See ``cost.Cost``."""
        return pricing().response_cost(self)  # type: ignore[no-any-return]  # loaded late

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's turn, to be appended to ``messages`` as it is, for this or any other model."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content or None}
        if self.tool_calls:
            message["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        elif message["content"] is None:
            message["content"] = ""
        if self.refusal is not None:
            message["refusal"] = self.refusal
        if self.opaque:
            message["opaque"] = self.opaque
        return message

    def save(self, folder: str | os.PathLike[str], **options: Any) -> list[Path]:
        """
        Write every image into a folder and give their paths, in the order of ``images``.

        Names are ``STEM-1.png`` and so on, with the next free number: no file is ever overwritten. An image that is
        only an address is downloaded: over https, from public addresses only, bounded in size and time.

        Args:
            folder: made if it does not exist.
            options: ``stem`` (``image``) and ``timeout`` (seconds for one download, 60).

        Raises:
            InvalidRequestError: there is no image.
            ProviderError: a download failed, or the address is none to download from.
            OSError: a file cannot be written.
        """
        return saving().save(self.images, folder, **options)  # type: ignore[no-any-return]  # loaded late

    async def save_async(self, folder: str | os.PathLike[str], **options: Any) -> list[Path]:
        """As ``save``, without stopping the event loop."""
        return await saving().save_async(self.images, folder, **options)  # type: ignore[no-any-return]  # loaded late

    def to_openai(self) -> Any:
        """The answer as the ``openai`` package's own ``ChatCompletion``; see ``exits.py``."""
        from llm_master.exits import to_openai

        return to_openai(self)

    def to_anthropic(self) -> Any:
        """
        The answer as the ``anthropic`` package's own ``Message``; see ``exits.py``.

        Raises:
            ToolArgumentsError: the arguments of a tool call are no JSON object.
        """
        from llm_master.exits import to_anthropic

        return to_anthropic(self)


class ModelConfig(msgspec.Struct, kw_only=True):
    """
    What is known of one model; prices are USD per million tokens and beat the shipped ones.

    A limit of None means none of ours: what a user sets here is never exceeded.
    """

    input_price_per_million: float | None = None
    output_price_per_million: float | None = None
    cached_input_price_per_million: float | None = None
    rate_limit_rpm: int | None = None
    rate_limit_tpm: int | None = None
    max_concurrency: int | None = None
    provider: str | None = None
    model: str | None = None


class ModelRegistry:
    """Models by name; put an entry into ``CONFIGS`` and it can be queried."""

    CONFIGS: ClassVar[dict[str, ModelConfig]] = {}

    @classmethod
    def get_config(cls, model_name: str) -> ModelConfig | None:
        """The entry of a model, looked up without regard to case; None when there is none."""
        found = cls.CONFIGS.get(model_name)
        if found is None:
            wanted = model_name.lower()
            found = next((config for name, config in cls.CONFIGS.items() if name.lower() == wanted), None)
        return found

    @classmethod
    def list_models(cls) -> list[str]:
        """Every registered name, sorted."""
        return sorted(cls.CONFIGS)


class BaseLLMProvider:
    """
    The base of every provider class.

    A custom one defines ``__init__(self, config=None)`` and
    ``async generate(self, messages, model, stream=False, **kwargs) -> LLMResponse``.
    """

    def __init__(self, config: Any = None) -> None:
        self.config = config

    async def generate(
        self, messages: list[dict[str, Any]], model: str, stream: bool = False, **kwargs: Any
    ) -> LLMResponse:
        """Answer the messages; raise ``ProviderError`` when that fails or when it cannot stream."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Release what the provider holds."""
