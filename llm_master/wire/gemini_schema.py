"""
JSON schemas in the two forms that the API reads.

``portable`` writes the part of JSON Schema that ``parametersJsonSchema`` and ``responseJsonSchema`` know, ``subset``
the OpenAPI subset of ``parameters`` and ``responseSchema``, which rejects a field that it does not know. Keywords of
neither are put into the description, where the model at least reads them. Sources, read 2026-11-21:
google-genai 3.4.0 (``response_json_schema``, ``Schema``) and https://ai.google.dev/gemini-api/docs/structured-output.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.errors import InvalidRequestError

__all__ = ["portable", "subset"]

_PORTABLE = frozenset(
    (
        *("$id", "$anchor", "type", "format", "title", "description", "enum", "minItems", "maxItems"),
        *("minimum", "maximum", "required", "propertyOrdering"),
    )
)
_SUBSET = frozenset(
    (
        *("description", "nullable", "minItems", "maxItems", "minProperties", "maxProperties", "minLength"),
        *("maxLength", "pattern", "minimum", "maximum", "required", "propertyOrdering", "example", "default"),
    )
)
# Of no consequence for what the model may answer.
_SILENT = frozenset(("$schema", "$comment", "discriminator", "$defs", "definitions"))
_IDLE = (("additionalProperties", False), ("default", None))
_SUBSET_FORMATS = frozenset(("float", "double", "int32", "int64", "enum", "date-time"))
_JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    type(None): "null",
}


def portable(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """
    A copy of a schema in the known part of JSON Schema; references stay, also recursive ones.

    Args:
        where: names the schema in errors.

    Raises:
        InvalidRequestError: what stands beside each other (``allOf``, a reference) cannot be written as one.
    """
    write = _Portable(where).write
    made = write(schema)
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    if definitions:
        made["$defs"] = {name: write(each) for name, each in definitions.items()}
    return made


class _Portable:
    """Writes schemas in the known part of JSON Schema."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def write(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, dict):
            return {}
        result: dict[str, Any] = {}
        words: list[str] = []
        for key, value in _flat(schema, self._where).items():
            if key in ("$ref", "anyOf", "oneOf", "properties", "prefixItems", "items", "additionalProperties"):
                self._put(result, key, value)
            elif key in _PORTABLE and (key != "enum" or all(map(_is_plain, value))):
                result[key] = value
            elif key not in _SILENT and (key, value) != ("default", None):
                words.append(_said(key, value))
        _describe(result, words)
        if "$ref" in result and len(result) > 1:
            # Nothing may stand beside a reference.
            if "anyOf" in result:
                raise InvalidRequestError(f"{self._where} has a $ref beside an anyOf; write them as one")
            result["anyOf"] = [{"$ref": result.pop("$ref")}]
        return result

    def _put(self, result: dict[str, Any], key: str, value: Any) -> None:
        if key == "$ref":
            result[key] = str(value).replace("#/definitions/", "#/$defs/")
        elif key in ("anyOf", "oneOf"):
            result.setdefault("anyOf", []).extend(self.write(each) for each in value)
        elif key == "properties":
            result[key] = {name: self.write(each) for name, each in value.items() if each is not False}
        elif key == "prefixItems":
            result[key] = [self.write(each) for each in value]
        else:
            result[key] = value if isinstance(value, bool) else self.write(value)


def subset(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """
    A copy of a schema in the OpenAPI subset, references inlined.

    Args:
        where: names the schema in errors.

    Raises:
        InvalidRequestError: a recursive reference, one that leads nowhere, or an object without properties.
    """
    return _Subset(schema, where).write(schema, ())


class _Subset:
    """Writes schemas in the OpenAPI subset; ``trail`` holds the references on the way to one."""

    __slots__ = ("_root", "_where")

    def __init__(self, root: dict[str, Any], where: str) -> None:
        self._root = root
        self._where = where

    def write(self, schema: Any, trail: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(schema, dict):
            return {}
        schema = _flat(schema, self._where)
        if isinstance(schema.get("$ref"), str):
            return self._inlined(schema, trail)
        result: dict[str, Any] = {}
        words: list[str] = []
        for key, value in schema.items():
            if key in ("anyOf", "oneOf", "properties", "items", "prefixItems"):
                self._put(result, key, value, trail)
            elif key == "type":
                _put_type(result, value)
            elif key == "enum" and all(isinstance(each, str | None) for each in value):
                _put_enum(result, value)
            elif (key in _SUBSET and value is not None) or (key == "format" and value in _SUBSET_FORMATS):
                result[key] = value
            elif key not in _SILENT and key != "title" and (key, value) not in _IDLE:
                words.append(_said(key, value))
        _describe(result, words)
        return _checked(result, self._where)

    def _inlined(self, schema: dict[str, Any], trail: tuple[str, ...]) -> dict[str, Any]:
        target = schema["$ref"]
        if target in trail:
            raise InvalidRequestError(
                f"{self._where} refers to itself at {target!r}, which this model cannot take; give a schema that is "
                "not recursive, or use a newer model"
            )
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return self.write({**_follow(self._root, target, self._where), **rest}, (*trail, target))

    def _put(self, result: dict[str, Any], key: str, value: Any, trail: tuple[str, ...]) -> None:
        if key in ("anyOf", "oneOf"):
            _put_union(result, [self.write(each, trail) for each in value])
        elif key == "properties":
            result[key] = {name: self.write(each, trail) for name, each in value.items() if each is not False}
        elif key == "prefixItems":
            _put_tuple(result, [self.write(each, trail) for each in value])
        elif isinstance(value, dict):
            result.setdefault(key, self.write(value, trail))


def _checked(result: dict[str, Any], where: str) -> dict[str, Any]:
    if result.get("type") == "OBJECT" and not result.get("properties"):
        raise InvalidRequestError(
            f"{where} has an object without properties, which this model cannot take; name them, or use a newer model"
        )
    names = list(result.get("properties", ()))
    if len(names) > 1:
        # Without it the model answers in the order of the alphabet.
        result.setdefault("propertyOrdering", names)
    return result


def _put_type(result: dict[str, Any], kind: Any) -> None:
    kinds = [kind] if isinstance(kind, str) else list(kind)
    rest = [each for each in kinds if each != "null"]
    if len(rest) < len(kinds) and rest:
        result["nullable"] = True
    if len(rest) == 1:
        result["type"] = rest[0].upper()
    elif rest:
        result["anyOf"] = [{"type": each.upper()} for each in rest]
    else:
        result["type"] = "NULL"


def _put_enum(result: dict[str, Any], values: list[Any]) -> None:
    result.update(type="STRING", enum=[each for each in values if each is not None])
    if None in values:
        result["nullable"] = True


def _put_union(result: dict[str, Any], forms: list[dict[str, Any]]) -> None:
    rest = [form for form in forms if form != {"type": "NULL"}]
    if len(rest) < len(forms):
        result["nullable"] = True
    if len(rest) == 1:
        result.update({key: value for key, value in rest[0].items() if key not in result})
    else:
        result["anyOf"] = [*result.get("anyOf", ()), *rest]


def _put_tuple(result: dict[str, Any], forms: list[dict[str, Any]]) -> None:
    different = [form for position, form in enumerate(forms) if form not in forms[:position]]
    result["items"] = different[0] if len(different) == 1 else {"anyOf": different}
    result.setdefault("minItems", len(forms))
    result.setdefault("maxItems", len(forms))


def _flat(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """The schema with ``allOf`` merged into it, ``const`` as an enum, and open bounds of integers closed."""
    if "allOf" in schema:
        schema = _without_all_of(schema, where)
    if "const" in schema:
        value = schema["const"]
        schema = {key: each for key, each in schema.items() if key != "const"}
        schema.setdefault("type", _JSON_TYPES.get(type(value), "object"))
        if value is not None:
            schema["enum"] = [value]
    if schema.get("type") == "integer":
        for bound, closed, step in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
            limit = schema.get(bound)
            if isinstance(limit, int) and not isinstance(limit, bool) and closed not in schema:
                schema = {key: each for key, each in schema.items() if key != bound}
                schema[closed] = limit + step
    return schema


def _without_all_of(schema: dict[str, Any], where: str) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key != "allOf"}
    for member in schema["allOf"]:
        for key, value in _flat(member, where).items():
            known = result.get(key)
            if known is None or known == value:
                result[key] = value
            elif key == "properties":
                result[key] = {**value, **known}
            elif key == "required":
                result[key] = list(dict.fromkeys((*known, *value)))
            elif key not in ("title", "description"):
                raise InvalidRequestError(
                    f"{where} has an allOf whose members differ in {key!r}, which Gemini cannot take; write them as one"
                )
    return result


def _follow(root: dict[str, Any], target: str, where: str) -> dict[str, Any]:
    found: Any = root
    for step in target.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise InvalidRequestError(f"{where} refers to {target!r}, which it does not hold; add it to $defs")
    return found


def _is_plain(value: Any) -> bool:
    """Whether an enum may hold a value: texts and numbers only."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _said(key: str, value: Any) -> str:
    return f"{key}: {msgspec.json.encode(value).decode()}"


def _describe(result: dict[str, Any], words: list[str]) -> None:
    if words:
        said = ", ".join(words)
        result["description"] = f"{result['description']} ({said})" if result.get("description") else said
