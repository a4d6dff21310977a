"""
A request body in the making, for the API families that share no more than the chat format they come from.

Each family adds its own fields, and writes its own messages and tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.errors import InvalidRequestError, UnsupportedParameterError
from llm_master.params import LIMITS

__all__ = [
    "NO_ODDS",
    "ONE_TEXT",
    "SCHEMA_TOOL",
    "UNSUPPORTED",
    "RequestDraft",
    "asks_for_schema",
    "is_blank",
    "schema_in",
]

#: The tool whose arguments are the answer, for models that take no JSON schema beside the rest of a request.
SCHEMA_TOOL = "structured_answer"

#: Parameter of the chat format that no other API has -> the value that asks for nothing (taken in silence), and what to
#: do instead.
UNSUPPORTED: dict[str, tuple[Any, str]] = {
    "repetition_penalty": (1, "leave it out"),
    "min_p": (0, "use top_p"),
    "logit_bias": ({}, "leave it out"),
    "prediction": (None, "leave it out"),
    "verbosity": ("medium", "ask for it in the prompt"),
    "functions": (None, "give tools"),
    "function_call": (None, "give tool_choice"),
}
#: Further ones, where an answer is one text.
ONE_TEXT: dict[str, tuple[Any, str]] = {
    "n": (1, "make several calls"),
    "modalities": (["text"], "use a model that speaks or draws"),
    "audio": (None, "use a model that speaks"),
}
#: Further ones, where nobody can see or change how likely a token is.
NO_ODDS: dict[str, tuple[Any, str]] = {
    "seed": (None, "leave it out"),
    "presence_penalty": (0, "leave it out"),
    "frequency_penalty": (0, "leave it out"),
    "logprobs": (False, "use a provider that gives them"),
    "top_logprobs": (0, "use a provider that gives them"),
}

# The way of the request, not its content.
_NOT_BODY = ("stream_options", "extra_headers", "extra_query")
_ENCODER = msgspec.json.Encoder()
_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])


class RequestDraft:
    """
    One request on its way to a body.

    Attributes:
        params: the caller's parameters without those that are None; what is written is taken out.
        body: the body so far.
        dropped: what was left out, in order.
    """

    __slots__ = ("body", "dropped", "params", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        given = request.params
        self.params: dict[str, Any] = {name: given[name] for name in given if given[name] is not None} if given else {}
        self.body: dict[str, Any] = {}
        self.dropped: list[str] = []

    @property
    def target(self) -> str:
        """Provider and model, as error messages name them."""
        return f"{self.request.provider} model {self.request.model!r}"

    def drop(self, name: str) -> None:
        """Note that something was left out."""
        if name not in self.dropped:
            self.dropped.append(name)

    def refuse(self, parameter: str, why: str, instead: str = "leave it out") -> None:
        """
        Leave a parameter out with drop_params.

        Raises:
            UnsupportedParameterError: without drop_params.
        """
        if not self.request.drop_params:
            raise UnsupportedParameterError(
                f"{self.target} cannot take {parameter!r}: {why}; {instead}, or set drop_params=True",
                parameter=parameter,
            )
        self.drop(parameter)

    def leave_out(self, unsupported: Mapping[str, tuple[Any, str]], unknown: Iterable[str]) -> None:
        """
        Take out what has no place in the body, and refuse what asks for something there is not.

        Args:
            unsupported: as ``UNSUPPORTED``.
            unknown: parameters that this server does not know.
        """
        params = self.params
        for name in _NOT_BODY:
            params.pop(name, None)
        for name in sorted(unknown):
            if name in params:
                self.refuse(name, "its server does not know it")
                del params[name]
        for name in [name for name in params if name in unsupported]:
            value = params.pop(name)
            neutral, instead = unsupported[name]
            if neutral is None or value != neutral:
                self.refuse(name, "it has no such parameter", instead)

    def limit(self, *, least: int = 0, names: tuple[str, ...] = LIMITS) -> int | None:
        """The output limit in tokens, which is taken out of ``params``; None where the caller gave none."""
        if not self.params:
            return None
        given = [value for name in names if (value := self.params.pop(name, None)) is not None]
        if not given:
            return None
        limit = given[0]
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < least:
            raise InvalidRequestError(f"{self.target}: max_tokens is a number of tokens, not {limit!r}")
        return limit

    def stops(self, *names: str) -> list[str] | None:
        """The stop sequences that the first of these parameters gives; None where none is given."""
        given = [self.params.pop(name) for name in names if name in self.params]
        if not given:
            return None
        sequences = [given[0]] if isinstance(given[0], str) else list(given[0])
        if not all(isinstance(text, str) for text in sequences):
            raise InvalidRequestError(f"{self.target}: stop is a text or a list of texts, not {given[0]!r}")
        return sequences

    def clamped(self, name: str, value: Any, bounds: tuple[float, float] | None) -> Any:
        """A value that lies within bounds; one that does not is refused, or with drop_params the nearest bound."""
        if bounds is None:
            return value
        low, high = bounds
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:  # noqa: PLR0124  # NaN
            raise InvalidRequestError(f"{self.target}: {name} is a number between {low:g} and {high:g}, not {value!r}")
        if low <= value <= high:
            return value
        bound = low if value < low else high
        self.refuse(name, f"{value!r} is not between {low:g} and {high:g}", f"the nearest it takes is {bound:g}")
        return int(bound) if isinstance(value, int) and float(bound).is_integer() else bound

    def format_kind(self, wanted: Any) -> str:
        """
        The type of a ``response_format``: ``text``, ``json_object`` or ``json_schema``.

        Raises:
            InvalidRequestError: it is none of them.
        """
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        if kind not in ("text", "json_object", "json_schema"):
            raise InvalidRequestError(
                f"{self.target}: response_format {wanted!r} is not known; its type is text, json_object or json_schema"
            )
        return str(kind)

    def definition(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """
        The definition in a ``response_format``, which holds a ``schema``.

        Raises:
            InvalidRequestError: it does not.
        """
        found = wanted.get("json_schema")
        if not isinstance(found, dict) or not isinstance(found.get("schema"), dict):
            raise InvalidRequestError(f"{self.target}: response_format json_schema holds no schema")
        return found

    def function_of(self, call: dict[str, Any]) -> dict[str, Any]:
        """
        The function that a tool call of the history names.

        Raises:
            InvalidRequestError: it names none.
        """
        function = call.get("function")
        if not isinstance(function, dict) or not function.get("name"):
            raise InvalidRequestError(
                f"{self.target}: tool call {call.get('id')!r} is no function call; give "
                '{"id", "type": "function", "function": {"name", "arguments"}}'
            )
        return function

    def arguments_of(self, function: dict[str, Any]) -> Any:
        """
        The arguments of a tool call of the history, to be sent as an object.

        Raises:
            InvalidRequestError: they are no JSON object.
        """
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            return arguments
        if not arguments or arguments.isspace():
            return {}
        try:
            _ARGUMENTS.decode(arguments)
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"{self.target}: arguments of tool call {function['name']!r} are not a JSON object ({error}); "
                "correct them in the history"
            ) from error
        # The text itself is sent, so that numbers keep their digits.
        return msgspec.Raw(arguments)

    def unknown_role(self, role: Any) -> InvalidRequestError:
        """The error for a message of a role that there is not."""
        return InvalidRequestError(
            f"{self.target}: no role {role!r}; roles are system, developer, user, assistant and tool"
        )

    def written(self, body: dict[str, Any]) -> bytes:
        """
        A body as JSON; what was left out is added to ``request.dropped``.

        Raises:
            InvalidRequestError: something in it has no form in JSON.
        """
        request = self.request
        if self.dropped:
            request.dropped = tuple(dict.fromkeys((*request.dropped, *self.dropped)))
        try:
            return _ENCODER.encode(body)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"{self.target}: the request cannot be written as JSON: {error}") from error


def is_blank(text: str) -> bool:
    """Whether a text is empty or white space, which most APIs reject."""
    return not text or text.isspace()


def asks_for_schema(params: Mapping[str, Any]) -> bool:
    """Whether the answer is to follow a JSON schema."""
    wanted = params.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


def schema_in(params: Mapping[str, Any]) -> Any:
    """The JSON schema that the answer is to follow, where ``asks_for_schema``; None where its place is empty."""
    holder = params["response_format"].get("json_schema")
    return holder.get("schema") if isinstance(holder, dict) else None
