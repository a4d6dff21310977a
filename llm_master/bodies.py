"""
The bytes of an answer that came with HTTP 200: read leniently, and the errors for those that are no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.classes import Request
from llm_master.classify import error_from_object, excerpt
from llm_master.errors import ProviderError, ResponseError

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["UNREADABLE", "amount_of", "as_object", "hidden_error", "no_answer", "refused", "unreadable", "walk"]
__all__ += ["ODD_USAGE", "mended", "with_upstream"]

#: The note on an answer of which ``mended`` left something out.
ODD_USAGE = "a usage of an unexpected shape was read as far as it could be"

#: What a decoder raises for bytes that are not the JSON it wants; nesting without end is among them.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def as_object(payload: bytes) -> Any:
    """
    Any JSON as plain objects.

    Python's own reader gets a second try: it takes NaN, raw control characters and unpaired surrogates, which some
    servers send.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        import json

        try:
            return json.loads(payload, strict=False)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


def walk(found: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of plain objects, None where it leads nowhere."""
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def mended(decoder: Any, payload: bytes, error: Exception, shape: type, *places: tuple[str, ...]) -> Any:
    """
    What a decoder makes of JSON with a usage of an unexpected shape: what of that cannot be read is left out.

    An answer is paid for, and not thrown away for what stands beside it.

    Args:
        error: for which the decoder refused it; shape: what it reads a usage into; places: where one may stand.

    Returns:
        None where something else is wrong.
    """
    if not isinstance(error, msgspec.ValidationError):
        return None
    try:
        found = msgspec.json.decode(payload)
        for *way, name in places:
            holder = walk(found, tuple(way))
            if isinstance(holder, dict) and name in holder:
                holder[name] = _readable(holder[name], shape)
        return decoder.decode(msgspec.json.encode(found))
    except UNREADABLE:
        return None


def _readable(usage: Any, shape: type) -> dict[str, Any] | None:
    if not isinstance(usage, dict):
        return None
    found = {}
    for name, value in usage.items():
        try:
            read = msgspec.to_builtins(msgspec.convert({name: value}, shape, strict=False))
        except msgspec.ValidationError:
            continue
        found[name] = read.get(name)
    return found


_DEAREST = 10**6


def amount_of(value: Any, unit: int = 1) -> Decimal | None:
    """A sum of money as a ``Decimal``, in units of which ``unit`` are one USD; None for what is none."""
    from llm_master.money import EXACT, money

    amount = money(value)
    if amount is not None and unit != 1:
        amount = EXACT.divide(amount, unit)
    # No request costs a million; a server that says so says nothing.
    return None if amount is None or amount >= _DEAREST else amount


def with_upstream(cost: Decimal | None, own_key: Any, details: Any) -> Decimal | None:
    """
    What a router charges together with what the provider behind it bills to the caller's own key there.

    Args:
        cost: USD that the router itself charges: with such a key only its fee.
        own_key: ``is_byok`` of its usage; details: ``cost_details``, whose ``upstream_inference_cost`` is the other
            part (https://openrouter.ai/docs/use-cases/usage-accounting, read 2026-11-21).

    Returns:
        Both; None where the other part is not told, because the fee is not the cost.
    """
    if own_key is not True:
        return cost
    upstream = amount_of(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    if upstream is None or cost is None:
        return None
    from llm_master.money import EXACT

    return EXACT.add(cost, upstream)


def no_answer(
    body: bytes,
    request: Request,
    what: str,
    step: str = "try again or check the base URL",
    *,
    status: int | None = 200,
) -> ResponseError:
    """
    The error for a body that is no answer.

    Args:
        what: the words after ``answered MODEL with``.
        step: what to do next.
        status: the HTTP status, None where it says nothing of the answer.
    """
    shown = excerpt(body)
    return ResponseError(
        f"{request.provider} answered {request.model!r} with {what}{f': {shown}' if shown else ''}; {step}",
        provider=request.provider,
        model=request.model,
        status_code=status,
        body=shown or None,
    )


def unreadable(body: bytes, request: Request, what: str | None = None) -> ResponseError:
    """The error for a body that is not JSON, named by what it begins with unless ``what`` says more."""
    start = body.lstrip()[:1]
    found = what or (
        "an empty body" if not start else "broken or truncated JSON" if start in b"{[" else "something else than JSON"
    )
    return no_answer(body, request, found, "check the base URL or try again", status=None)


def refused(
    body: bytes,
    request: Request,
    rules: Mapping[str, str] | None,
    cause: Exception,
    error_in: Callable[[dict[str, Any]], tuple[dict[str, Any], Any] | None],
    *,
    what: str = "no answer",
) -> ProviderError:
    """
    The error for a body that could not be read as an answer.

    Args:
        rules: the row's ``error_codes``.
        cause: what the decoder raised.
        error_in: the error that an object holds, and the id of the request; None where it holds none.
        what: what the body is, where it holds none.
    """
    try:
        found = msgspec.json.decode(body)
    except UNREADABLE:
        return no_answer(body, request, "not JSON")
    said = error_in(found) if isinstance(found, dict) else None
    if said is None:
        return no_answer(body, request, f"{what} ({cause})")
    error, request_id = said
    return error_from_object(
        error,
        provider=request.provider,
        model=request.model,
        rules=rules,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def hidden_error(found: Any, request: Request, rules: Mapping[str, str] | None) -> ProviderError | None:
    """The error in decoded JSON of an OpenAI-compatible server, also one in a list; None when it holds none."""
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return None
    says = any(found.get(field) for field in ("error", "errors", "detail")) or found.get("object") == "error"
    if not says and not isinstance(found.get("message"), str):
        return None
    request_id = found.get("id")
    return error_from_object(
        found,
        provider=request.provider,
        model=request.model,
        rules=rules,
        request_id=request_id if isinstance(request_id, str) else None,
    )
