"""
Python types as JSON schemas, and JSON text as values of those types.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import msgspec

from llm_master.built import adapter_of, build
from llm_master.errors import InvalidRequestError
from llm_master.subset import referred

__all__ = ["Wanted", "complete_json", "schema_of", "wanted_of"]

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_INSIDE_OF = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DEEPEST = 64
# Keys of a schema that hold values, not schemas; and those that hold schemas by name.
_VALUES = frozenset(("enum", "const", "default", "examples"))
_NAMED = ("properties", "$defs", "definitions")
# What strict modes refuse: https://developers.openai.com/api/docs/guides/structured-outputs (read 2026-11-21).
_NEVER_STRICT = frozenset(
    ("allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
)
# How services that draw are told to give a picture; a chat's family says that it is none of its own.
_PICTURES = ("url", "b64_json")
# Every family wants an object; what is none stands in one, under this name.
_INSIDE = "value"


class Wanted:
    """
    The answer that a caller wants: a type, or a JSON schema.

    Args:
        kind: a pydantic model, msgspec Struct, dataclass, TypedDict or any type that JSON can hold, or a JSON schema.

    Attributes:
        response_format: as the chat format has it. What is no object, such as ``list[int]``, stands in one there.
        wrapped: whether it does.

    Raises:
        InvalidRequestError: the type has no JSON schema.
    """

    __slots__ = ("kind", "response_format", "schema", "wrapped")

    def __init__(self, kind: Any, name: str | None = None) -> None:
        self.kind = kind
        self.schema = _rooted(kind) if isinstance(kind, dict) else schema_of(kind)
        title = name or (self.schema.get("title") if isinstance(kind, dict) else getattr(kind, "__name__", None))
        self.wrapped = self.schema.get("type", "object" if "properties" in self.schema else None) != "object"
        asked = _wrapped(self.schema) if self.wrapped else self.schema
        strict = _is_strict(asked)
        self.response_format: dict[str, Any] = {
            "type": "json_schema",
            "json_schema": {
                "name": _NAME.sub("_", str(title or "answer"))[:64] or "answer",
                "schema": _closed(asked) if strict else asked,
                "strict": strict,
            },
        }

    def inside(self, value: Any) -> Any:
        """What a value, or the part of it that has come, is of the answer that was asked for; None for nothing yet."""
        if self.wrapped and isinstance(value, dict) and value.keys() <= {_INSIDE}:
            return value.get(_INSIDE)
        return value

    def parse(self, text: str) -> Any:
        """
        The value that an answer's text holds; a Markdown fence around it does not matter.

        Raises:
            ValueError: it is no JSON, or not of this type; the text says where.
        """
        fenced = _FENCE.match(text)
        data: Any = fenced[1] if fenced else text.strip()
        if self.wrapped:
            # A server that holds nobody to a schema may give the value alone.
            with contextlib.suppress(ValueError, RecursionError):
                held = _INSIDE_OF.decode(data)
                data = bytes(held[_INSIDE]) if held.keys() == {_INSIDE} else data
        if isinstance(self.kind, dict):
            try:
                value = msgspec.json.decode(data)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"it is not JSON: {error}") from error
            problem = _mismatch(value, self.schema, self.schema, "$", 0)
            if problem:
                raise ValueError(problem)
            return value
        if hasattr(self.kind, "model_validate_json"):
            return self.kind.model_validate_json(data)  # pydantic's own error is a ValueError
        adapter = adapter_of(self.kind)
        if adapter is not None:
            return adapter.validate_json(data)
        build(self.kind)
        try:
            return msgspec.json.decode(data, type=self.kind)
        except (ValueError, RecursionError) as error:  # also what does not validate
            raise ValueError(str(error)) from error


def wanted_of(response_format: Any) -> Wanted | None:
    """
    What a ``response_format`` asks for; None for one that is in the chat format already and names no schema, and for
    a word of services that draw.

    Raises:
        InvalidRequestError: it is neither a type nor a schema nor a response format, or a schema that means nothing.
    """
    if isinstance(response_format, dict):
        kind = response_format.get("type")
        if kind in ("text", "json_object"):
            return None
        if kind == "json_schema":
            inner = response_format.get("json_schema")
            inner = inner if isinstance(inner, dict) else {}
            schema = inner.get("schema")
            if not isinstance(schema, dict):
                return None  # the family says what is wrong with it
            found = Wanted(schema, inner.get("name"))
            # It is sent as it was given.
            found.response_format, found.wrapped = response_format, False
            return found
        if (
            isinstance(kind, list)
            or kind in _TYPES
            or not {"properties", "$ref", "anyOf", "oneOf", "allOf", "enum"}.isdisjoint(response_format)
        ):
            _check(response_format, response_format)
            return Wanted(response_format)
        return None
    return None if isinstance(response_format, str) and response_format in _PICTURES else Wanted(response_format)


def _check(schema: Any, root: dict[str, Any]) -> None:
    """Refuse what no provider can make an answer of: an unknown type, or a reference that leads nowhere."""
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type", ())
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind not in _TYPES:
            raise InvalidRequestError(
                f"response_format: {kind!r} is no type of JSON schema; give one of {', '.join(_TYPES)}"
            )
    reference = schema.get("$ref")
    if isinstance(reference, str) and not isinstance(referred(reference, root), dict):
        raise InvalidRequestError(
            f"response_format: the schema refers to {reference!r}, which is not in it; put that under $defs, since no"
            " provider fetches schemas"
        )
    for key, value in schema.items():
        if key not in _VALUES:
            for each in value.values() if key in _NAMED and isinstance(value, dict) else (value,):
                for part in each if isinstance(each, list) else (each,):
                    _check(part, root)


def schema_of(kind: Any) -> dict[str, Any]:
    """
    The JSON schema of a type; what it refers to stands in ``$defs``.

    Raises:
        InvalidRequestError: the type has none.
    """
    try:
        if hasattr(kind, "model_json_schema"):
            return _rooted(kind.model_json_schema())
        adapter = adapter_of(kind)
        if adapter is not None:
            return _rooted(adapter.json_schema())
        (root,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    except (TypeError, NameError, RuntimeError) as error:  # the last is what pydantic's own derive from
        raise InvalidRequestError(
            f"response_format={kind!r} has no JSON schema ({error}); give a dataclass, TypedDict, msgspec Struct,"
            " pydantic model or a schema"
        ) from error
    return _rooted({**root, "$defs": parts} if parts else root)


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what its root refers to in place of the reference, which several providers refuse."""
    parts = schema.get("$defs")
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if not isinstance(parts, dict) or not isinstance(parts.get(name), dict):
        return schema
    if not _refers(parts, name):
        parts = {key: part for key, part in parts.items() if key != name}
    rest = {key: value for key, value in schema.items() if key not in ("$ref", "$defs")}
    root = {**schema["$defs"][name], **rest}
    return {**root, "$defs": parts} if parts else root


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """An object whose one property is what a schema is of."""
    held: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inner = {key: value for key, value in schema.items() if key not in held}
    return {
        "type": "object",
        "properties": {_INSIDE: inner},
        "required": [_INSIDE],
        "additionalProperties": False,
        **held,
    }


def _refers(parts: dict[str, Any], name: str) -> bool:
    return f'"#/$defs/{name}"'.encode() in msgspec.json.encode(list(parts.values()))


def _is_strict(schema: Any) -> bool:
    """Whether every object names all its properties as required, so that a provider can hold a model to it."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if not _NEVER_STRICT.isdisjoint(schema) or ("oneOf" in schema and "anyOf" in schema):
        return False
    properties = schema.get("properties")
    if isinstance(properties, dict) and set(schema.get("required", ())) != set(properties):
        return False
    extra = schema.get("additionalProperties")
    if extra not in (None, False) or (schema.get("type") == "object" and not isinstance(properties, dict)):
        return False
    named = [each for key in _NAMED if isinstance(held := schema.get(key), dict) for each in held.values()]
    return all(map(_is_strict, named)) and all(
        _is_strict(value) for key, value in schema.items() if key not in _VALUES and key not in _NAMED
    )


def _closed(schema: Any) -> Any:
    """
    The schema with its objects closed and with ``anyOf`` for ``oneOf``, which strict modes ask for.

    https://github.com/openai/openai-agents-python/pull/1884 (read 2026-11-21).
    """
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            found[key] = {name: _closed(each) for name, each in value.items()}
        elif not (key == "discriminator" and "oneOf" in schema):
            found["anyOf" if key == "oneOf" else key] = value if key in _VALUES else _closed(value)
    if isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object":
        found["additionalProperties"] = False
    return found


def _mismatch(value: Any, schema: Any, root: dict[str, Any], path: str, depth: int) -> str | None:
    """
    What of a value contradicts a schema, None when nothing is found.

    Looked at are types, required and closed properties, items, enums, constants, references and alternatives: what a
    model gets wrong. Patterns and ranges are not.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        return _mismatch(value, referred(reference, root), root, path, depth + 1)
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            problems = [_mismatch(value, option, root, path, depth + 1) for option in options]
            if all(problems):
                return f"{path} fits none of its alternatives ({problems[0]})"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is {value!r}, not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{path} is {value!r}, not {schema['const']!r}"
    return _wrong_type(value, schema, path) or _wrong_parts(value, schema, root, path, depth)


def _wrong_type(value: Any, schema: dict[str, Any], path: str) -> str | None:
    given = schema.get("type")
    names = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    allowed = tuple(kind for name in names for kind in _TYPES.get(name, ()))
    if not allowed:
        return None
    fits = isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)
    whole = isinstance(value, float) and value.is_integer() and "integer" in names
    return None if fits or whole else f"{path} is a {type(value).__name__}, not of type {'|'.join(names)}"


def _wrong_parts(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str, depth: int) -> str | None:
    if isinstance(value, list):
        return next(
            (
                found
                for index, each in enumerate(value)
                if (found := _mismatch(each, schema.get("items"), root, f"{path}[{index}]", depth + 1))
            ),
            None,
        )
    if not isinstance(value, dict):
        return None
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{path} lacks {', '.join(missing)}"
    properties = schema.get("properties") or {}
    if schema.get("additionalProperties") is False and (extra := [name for name in value if name not in properties]):
        return f"{path} has {', '.join(extra)}, which it may not have"
    return next(
        (
            found
            for name, each in value.items()
            if (found := _mismatch(each, properties.get(name), root, f"{path}.{name}", depth + 1))
        ),
        None,
    )


def complete_json(text: str) -> Any:
    """The value of a JSON text that is still coming, as far as it has come; None when nothing has."""
    import jiter

    start = next((at for at, char in enumerate(text) if char in "{["), None)
    if start is None:
        return None
    try:
        return jiter.from_json(text[start:].encode(), partial_mode="trailing-strings")
    except ValueError:
        return None  # words around the JSON, such as the end of a fence
