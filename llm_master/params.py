"""
Bad parameters found before anything is sent: what no provider could take, whatever the model.

What one model cannot take is its row's business; this is about values that are wrong everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from llm_master.errors import InvalidRequestError
from llm_master.redaction import shown

__all__ = ["LIMITS", "RESERVED", "SYNONYMS", "check", "check_model_name", "check_timeout"]

#: Names that must never reach a request's body, and where they belong.
RESERVED: dict[str, str] = {
    "model": "query(model_name=...)",
    "model_name": "query(model_name=...)",
    "messages": "query(messages=...)",
    "stream": "query(stream=...)",
    "timeout": "query(timeout=...)",
    "config": "QueryLLM(config)",
    "provider": "the model's name, 'provider/model'",
    "api_key": "LLMConfig(<provider>_api_key=...)",
    "api_token": "LLMConfig(<provider>_api_key=...)",
    "authorization": "LLMConfig(<provider>_api_key=...)",
    "base_url": "LLMConfig(base_urls={...})",
    "api_base": "LLMConfig(base_urls={...})",
    "api_url": "LLMConfig(api_urls={...})",
    "headers": "extra_headers={...}",
    "default_headers": "extra_headers={...}",
    "max_retries": "query(max_attempts=...)",
    "fallback_model": "query(fallback_model=...)",
    "fallback_config": "query(fallback_config=...)",
}

#: The names under which callers give the output limit; the first is the canonical one.
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

#: Parameters that say the same; two of them with different values contradict each other.
SYNONYMS: tuple[tuple[str, ...], ...] = (
    LIMITS,
    ("stop", "stop_sequences"),
)

# Without one of these no two synonyms meet, which is the usual case.
_RARE = frozenset(name for names in SYNONYMS for name in names[1:])

_LARGEST = 1e300

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOOL_CHOICES = ("auto", "none", "required", "any")


def check(model_name: str, params: dict[str, Any]) -> None:
    """
    Check the parameters of a call; ``None`` counts as not given.

    Raises:
        InvalidRequestError: names the parameter, its value and what is accepted.
    """
    for name, value in params.items():
        checker = _CHECKS.get(name)
        if checker is not None:
            # A reserved name would overwrite a field of the body even with None.
            if value is not None or checker is _reserved:
                checker(model_name, name, value)
        elif isinstance(value, (float, dict, list, tuple)):
            _check_finite(model_name, name, value)
    if params.get("tool_choice") is not None:
        _tool_choice(model_name, params["tool_choice"], params)
    if not _RARE.isdisjoint(params):
        _check_synonyms(model_name, params)


def check_timeout(value: Any, name: str = "timeout") -> float:
    """
    A time limit in seconds as a float.

    Raises:
        InvalidRequestError: it is not a finite number above 0.
    """
    if not _is_number(value, 0) or not value:
        raise InvalidRequestError(f"{name}={shown(value)} is not a time limit; give seconds above 0, or None for none")
    return float(value)


def check_model_name(name: Any, api: Any = None) -> None:
    """
    Check that a model's name is a text that can be looked up and sent, and that what was given as ``api=`` is one.

    Raises:
        InvalidRequestError: it is not a string, empty, or holds control characters.
    """
    if api is not None and not isinstance(api, str):
        raise InvalidRequestError(f"api={shown(api)} is no name of a family; give one such as 'openai_responses'")
    if type(name) is str and name.isprintable() and name.strip():
        return
    if not isinstance(name, str):
        raise InvalidRequestError(f"model_name must be a string such as 'gpt-4.1', not {shown(name)}")
    if not name.strip():
        raise InvalidRequestError("model_name is empty; name a model such as 'gpt-4.1' or 'local'")
    if not name.isprintable():
        raise InvalidRequestError(f"model_name {shown(name)} holds control or invisible characters; remove them")


def _wrong(model_name: str, name: str, value: Any, accepted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{model_name}: {name}={shown(value)} is not accepted; {name} is {accepted}")


def _is_number(value: Any, low: float = -_LARGEST, high: float = _LARGEST) -> bool:
    # NaN and infinity lie in no range.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _check_finite(model_name: str, name: str, value: Any) -> None:
    # JSON has no NaN and no infinity: they would be sent as null, in silence.
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _wrong(model_name, name, value, "a finite number")
    elif isinstance(value, dict):
        for key, each in value.items():
            if isinstance(each, (float, dict, list, tuple)):
                _check_finite(model_name, f"{name}.{key}", each)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            if isinstance(each, (float, dict, list, tuple)):
                _check_finite(model_name, f"{name}[{index}]", each)


def _check_synonyms(model_name: str, params: dict[str, Any]) -> None:
    for names in SYNONYMS:
        given = [name for name in names if params.get(name) is not None]
        if len(given) > 1 and any(params[name] != params[given[0]] for name in given):
            values = ", ".join(f"{name}={shown(params[name])}" for name in given)
            raise InvalidRequestError(f"{model_name}: {values} contradict each other; give one of them")


def _reserved(model_name: str, name: str, value: Any) -> None:
    # An aggregator's routing rules are a body field of this name; a provider's name is a string.
    if name == "provider" and isinstance(value, dict):
        return _check_finite(model_name, name, value)
    raise InvalidRequestError(
        f"{model_name}: {name} is not a parameter of the request; it belongs into {RESERVED[name]}"
    )


def _temperature(model_name: str, name: str, value: Any) -> None:
    if not _is_number(value, 0):
        raise _wrong(model_name, name, value, "a number from 0, usually up to 1 or 2")


def _share(model_name: str, name: str, value: Any) -> None:
    if not _is_number(value, 0, 1) or not value:
        raise _wrong(model_name, name, value, "a number above 0 and up to 1")


def _finite(model_name: str, name: str, value: Any) -> None:
    if not _is_number(value):
        raise _wrong(model_name, name, value, "a finite number")


def _positive(model_name: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(model_name, name, value, "a whole number from 1")


def _stop(model_name: str, name: str, value: Any) -> None:
    if not isinstance(value, str) and not (
        isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    ):
        raise _wrong(model_name, name, value, "a text or a list of texts")


def _tools(model_name: str, name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise _wrong(model_name, name, value, "a list of tool definitions")
    seen: set[str] = set()
    for index, tool in enumerate(value):
        found = _tool_name(tool)
        odd = isinstance(tool, dict) and not isinstance(tool.get("type", ""), str | None)
        if odd or (found is None and not _is_own_tool(tool)):
            accepted = "{'type': 'function', 'function': {'name': ..., 'parameters': {...}}}"
            raise _wrong(model_name, f"{name}[{index}]", tool, accepted)
        if found in seen:
            raise InvalidRequestError(f"{model_name}: {name} has two tools of the name {found!r}; rename one")
        if found is not None:
            seen.add(found)


def _is_own_tool(tool: Any) -> bool:
    """Whether it is a tool of the provider's own: it has another type, or is one field such as ``google_search``."""
    if not isinstance(tool, dict):
        return False
    if tool.get("type") not in (None, "function"):
        return True
    return len(tool) == 1 and "function" not in tool and isinstance(next(iter(tool.values())), (dict, list))


def _tool_name(tool: Any) -> str | None:
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) and name else None


def _tool_choice(model_name: str, value: Any, params: dict[str, Any]) -> None:
    name = "tool_choice"
    offered = [found for tool in params.get("tools") or () if (found := _tool_name(tool))]
    if isinstance(value, str):
        if value.lower() not in _TOOL_CHOICES:
            hint = f"; to force this tool: {{'type': 'function', 'function': {{'name': {value!r}}}}}"
            accepted = f"one of {', '.join(_TOOL_CHOICES)} or a dict that names a tool"
            raise _wrong(model_name, name, value, accepted + (hint if value in offered else ""))
    elif not isinstance(value, dict):
        raise _wrong(model_name, name, value, f"one of {', '.join(_TOOL_CHOICES)} or a dict that names a tool")
    elif (
        value.get("type") in (None, "function", "tool", "custom")
        and (wanted := _tool_name(value)) is not None
        and wanted not in offered
    ):
        accepted = f"the name of an offered tool ({', '.join(offered)})" if offered else "used together with tools="
        raise _wrong(model_name, name, wanted, accepted)


def _extra_headers(model_name: str, name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{model_name}: {name} must be a dict of texts, not {type(value).__name__}")
    for header, text in value.items():
        if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
            raise InvalidRequestError(
                f"{model_name}: {name} has the name {shown(header)}, which is not a header's name"
            )
        # The value may be a credential and is never shown.
        if not isinstance(text, str):
            raise InvalidRequestError(f"{model_name}: {name}[{header!r}] must be a text, not {type(text).__name__}")
        if any((char < " " and char != "\t") or char == "\x7f" for char in text):
            raise InvalidRequestError(f"{model_name}: {name}[{header!r}] holds a line break or control character")


def _switch(model_name: str, name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(model_name, name, value, "True or False")


def _extra_body(model_name: str, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(model_name, name, value, "a dict of body fields")
    _check_finite(model_name, name, value)


def _unchecked(model_name: str, name: str, value: Any) -> None:
    """Nothing: ``tool_choice`` is looked at beside the tools; a schema's numbers are the caller's."""


_CHECKS: dict[str, Callable[[str, str, Any], None]] = {
    **dict.fromkeys(RESERVED, _reserved),
    "temperature": _temperature,
    "top_p": _share,
    "presence_penalty": _finite,
    "frequency_penalty": _finite,
    "max_tokens": _positive,
    "max_completion_tokens": _positive,
    "max_output_tokens": _positive,
    "n": _positive,
    "stop": _stop,
    "stop_sequences": _stop,
    "tools": _tools,
    "tool_choice": _unchecked,
    "response_format": _unchecked,
    "extra_headers": _extra_headers,
    "extra_body": _extra_body,
    "use_prompt_caching": _switch,
}
