"""
Addresses in messages that a server does not fetch itself, fetched and put in place as data.
"""

from __future__ import annotations

import asyncio
import binascii
from time import monotonic
from typing import TYPE_CHECKING, Any

from llm_master.errors import LLMError
from llm_master.fetch_rules import FetchError, FetchPolicy, check_address, place_of
from llm_master.file_input import typed_audio
from llm_master.image_input import Files
from llm_master.media import FetchNeededError

if TYPE_CHECKING:
    import aiohttp

    from llm_master.classes import Request

__all__ = ["encode_inlined", "encode_unfetched"]

_AT_ONCE = 4
_TOO_MANY = "the messages name too many addresses to be fetched (FetchPolicy.max_urls); give some as data"
# Small things that every family takes: with them in place the encoder gets to the next address.
_STAND_INS = {
    "image": "data:image/png;base64,iVBORw0KGgo=",
    "file": "data:application/pdf;base64,JVBERi0=",
    "video": "data:video/mp4;base64,AAAA",
    "audio": "data:audio/wav;base64,UklGRg==",
}


async def encode_inlined(
    target: Any, request: Request, needed: FetchNeededError, timeout: aiohttp.ClientTimeout
) -> tuple[bytes, aiohttp.ClientTimeout]:
    """
    The body of a request with what its messages name by address, and the time that is left for it.

    The messages of the caller are not changed; ``request`` holds a copy.

    Raises:
        FetchError: an address must not or cannot be fetched, or the time of the attempt is over.
    """
    import aiohttp

    started = monotonic()
    policy: FetchPolicy = target.transport.fetching or FetchPolicy()
    messages = request.messages
    found: dict[str, str] = {}
    while True:
        request.messages = messages
        wanted = _all_needed(target, request, needed, found, most=policy.max_urls - len(found))
        had = sum(len(data) * 3 // 4 for data in found.values())
        found.update(await _fetch_all(wanted, policy, timeout.total, policy.max_total_bytes - had))
        request.messages = _replaced(messages, found)
        try:
            body: bytes = target.encode(request)
        except FetchNeededError as another:
            if another.url in found:
                raise
            needed = another
            continue
        if timeout.total is None:
            return body, timeout
        left = max(timeout.total - (monotonic() - started), 0.001)
        return body, aiohttp.ClientTimeout(total=left, sock_connect=timeout.sock_connect)


def encode_unfetched(target: Any, request: Request, needed: FetchNeededError) -> tuple[bytes, dict[str, str]]:
    """
    The body of a request as it would be with what its messages name by address; nothing is fetched.

    Returns:
        The body, and by the base64 that stands in it for a thing the address of that thing.

    Raises:
        FetchError: an address must not be fetched, as far as its text tells.
    """
    policy: FetchPolicy = target.transport.fetching or FetchPolicy()
    messages = request.messages
    stand_ins: dict[str, str] = {}
    while True:
        place = place_of(needed.url, policy)
        if place.is_ip:
            check_address(needed.url, place.host, place.host, policy)
        if len(stand_ins) >= policy.max_urls:
            raise FetchError(_TOO_MANY)
        head, _, small = _STAND_INS[needed.what].partition(",")
        # Different bytes for each address, of the kind that the small thing begins like.
        marked = binascii.a2b_base64(small) + b" not fetched %03d" % len(stand_ins)
        stand_ins[needed.url] = f"{head},{binascii.b2a_base64(marked, newline=False).decode()}"
        request.messages = _replaced(messages, stand_ins)
        try:
            body: bytes = target.encode(request)
        except FetchNeededError as another:
            if another.url in stand_ins:
                raise
            needed = another
            continue
        return body, {data.partition(",")[2]: url for url, data in stand_ins.items()}


def _all_needed(
    target: Any, request: Request, needed: FetchNeededError, found: dict[str, str], *, most: int
) -> dict[str, str]:
    """Every further address that the encoder asks for, with the kind of thing behind it."""
    messages = request.messages
    wanted = {needed.url: needed.what}
    while len(wanted) <= most:
        stand_ins = {url: _STAND_INS[what] for url, what in wanted.items()}
        request.messages = _replaced(messages, {**found, **stand_ins})
        try:
            target.encode(request)
        except FetchNeededError as more:
            if more.url in wanted:
                return wanted
            wanted[more.url] = more.what
        except LLMError:
            # Whatever else is wrong shows again with the real data.
            return wanted
        else:
            return wanted
    raise FetchError(_TOO_MANY)


async def _fetch_all(wanted: dict[str, str], policy: FetchPolicy, seconds: float | None, room: int) -> dict[str, str]:
    from llm_master.fetch import fetch

    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(url: str, what: str) -> tuple[str, str]:
        nonlocal room
        async with gate:
            data, mime = await fetch(url, policy, what=what)
        room -= len(data)
        if room < 0:
            raise FetchError(
                f"what the messages name by address is larger than {policy.max_total_bytes:,} bytes together"
                " (FetchPolicy.max_total_bytes); send less of it, or smaller things"
            )
        return url, f"data:{mime};base64,{binascii.b2a_base64(data, newline=False).decode()}"

    tasks = [asyncio.create_task(one(url, what)) for url, what in wanted.items()]
    try:
        async with asyncio.timeout(seconds):
            # The first that fails ends the others.
            return dict(await asyncio.gather(*tasks))
    except TimeoutError:
        raise FetchError("what the messages name by address was not fetched in the time of the call") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _replaced(messages: list[dict[str, Any]], data: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [_part(part, data) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _part(part: Any, data: dict[str, str]) -> Any:
    """A content part with the addresses in it replaced, also one level down."""
    if not isinstance(part, dict) or part.get("type") in ("text", "refusal"):
        return part
    sound = part.get("input_audio")
    if isinstance(sound, dict) and sound.get("url") in data:
        return typed_audio({**part, "input_audio": data[sound["url"]]}, sound["url"], Files(None, 0))
    return {key: _value(value, data) for key, value in part.items()}


def _value(value: Any, data: dict[str, str]) -> Any:
    if isinstance(value, str):
        return data.get(value, value)
    if isinstance(value, dict):
        return {key: data.get(each, each) if isinstance(each, str) else each for key, each in value.items()}
    return value
