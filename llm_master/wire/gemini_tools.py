"""
Tools, tool choice and the shape of the answer.

Models before 3 give no JSON beside functions. There a schema becomes the function ``SCHEMA_TOOL``, whose arguments
``decode`` and ``Fold`` turn back into the answer's text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llm_master.classes import Request
from llm_master.dialect_gemini import GeminiModel
from llm_master.errors import InvalidRequestError
from llm_master.wire.gemini_draft import SCHEMA_TOOL, Draft, camel, camel_keys
from llm_master.wire.gemini_schema import portable, subset

__all__ = ["TOOLS", "schema_tool_wanted", "write_tools"]

#: The parameters that are written here.
TOOLS = (
    *("tools", "tool_choice", "parallel_tool_calls", "response_format", "web_search_options"),
    *("tool_config", "toolConfig"),
)

#: Google's own tools, as the API names them.
_NATIVE = frozenset(
    (
        *("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps", "fileSearch"),
        *("computerUse", "enterpriseWebSearch", "retrieval", "mcpServers", "parallelAiSearch", "exaAiSearch"),
    )
)
# What other providers call the same thing.
_ALIASES = {"web_search": "googleSearch", "web_search_preview": "googleSearch", "code_interpreter": "codeExecution"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}
_CARRIED = ("behavior", "response", "responseJsonSchema")


def schema_tool_wanted(request: Request, rules: GeminiModel) -> bool:
    """Whether the answer comes as arguments of ``SCHEMA_TOOL``."""
    params = request.params
    wanted = params.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema" or not rules.functions:
        return False
    if (rules.combination and rules.json) or _mode(params.get("tool_choice")) == "NONE":
        return False
    return any(_is_function(tool) or _declares(tool) for tool in params.get("tools") or ())


def _declares(tool: dict[str, Any]) -> bool:
    return any(camel(str(key)) == "functionDeclarations" for key in tool)


def _mode(choice: Any) -> str | None:
    """The calling mode that a plain choice stands for, None for one that names tools."""
    word = choice.get("type") if isinstance(choice, dict) else choice
    return _MODES.get(word.lower()) if isinstance(word, str) else None


def _is_function(tool: dict[str, Any]) -> bool:
    return tool.get("type") in (None, "function") and bool(tool.get("name") or tool.get("function"))


class _Offer:
    """What is offered: function declarations, Google's own tools, and how the model is to choose."""

    __slots__ = ("functions", "mode", "names", "native", "strict")

    def __init__(self) -> None:
        self.functions: list[dict[str, Any]] = []
        self.native: list[dict[str, Any]] = []
        self.strict = False
        self.mode: str | None = None
        self.names: list[str] = []


def write_tools(draft: Draft) -> None:
    """
    Write ``tools``, ``toolConfig`` and the fields of the generation config that shape the answer.

    Raises:
        InvalidRequestError: a tool, a choice or a format that cannot be read, or a schema without an equivalent.
        UnsupportedParameterError: what the model does not take, unless drop_params is set.
    """
    params = draft.params
    offer = _Offer()
    for tool in params.pop("tools", ()):
        _offer(tool, offer, draft)
    _add_search(draft, offer)
    _choose(params.pop("tool_choice", None), offer, draft)
    if params.pop("parallel_tool_calls", True) is False and offer.functions:
        draft.refuse("parallel_tool_calls", "it has no such parameter", "ask in the prompt for one call at a time")
    _check_functions(draft, offer)
    _write_format(draft, offer)
    config = camel_keys({**params.pop("tool_config", {}), **params.pop("toolConfig", {})})
    if offer.functions:
        draft.body.setdefault("tools", []).append({"functionDeclarations": offer.functions})
        calling = _calling(offer, draft)
        if calling:
            config["functionCallingConfig"] = {**config.get("functionCallingConfig", {}), **calling}
        if config.get("functionCallingConfig", {}).pop("streamFunctionCallArguments", False):
            draft.refuse("tool_config.streamFunctionCallArguments", "its pieces of arguments are not put together")
        if offer.native and draft.dialect.tool_invocations:
            config.setdefault("includeServerSideToolInvocations", True)
    if offer.native:
        draft.body.setdefault("tools", []).extend(offer.native)
    if config:
        draft.body["toolConfig"] = config


def _offer(tool: Any, offer: _Offer, draft: Draft) -> None:
    if not isinstance(tool, dict):
        raise InvalidRequestError(f"{draft.target}: a tool is {type(tool).__name__}; give a dict")
    if _is_function(tool):
        offer.functions.append(_declaration(tool, offer, draft))
        return
    kind = tool.get("type")
    given = {kind: {key: value for key, value in tool.items() if key != "type"}} if isinstance(kind, str) else tool
    for name, options in given.items():
        spelled = _ALIASES.get(name, camel(name))
        if spelled == "functionDeclarations" and isinstance(options, list):
            offer.functions += options
        elif spelled in _NATIVE:
            offer.native.append({spelled: camel_keys(options or {})})
        elif kind is None:
            raise InvalidRequestError(
                f"{draft.target}: a tool without a name; give its function's name and parameters, or one of "
                f"{', '.join(sorted(_NATIVE))}"
            )
        else:
            draft.refuse("tools", f"it knows no tool of type {name!r}", f"known: {', '.join(sorted(_NATIVE))}")


def _declaration(tool: dict[str, Any], offer: _Offer, draft: Draft) -> dict[str, Any]:
    function = tool.get("function", tool)
    if not isinstance(function, dict) or not function.get("name"):
        raise InvalidRequestError(f"{draft.target}: a tool without a name; give its function's name and parameters")
    name = function["name"]
    made: dict[str, Any] = {"name": name}
    if function.get("description"):
        made["description"] = function["description"]
    native = {camel(key): value for key, value in function.items()}
    schema = native.get("parametersJsonSchema") or native.get("parameters")
    if schema and not _is_empty(schema):
        where = f"{draft.target}: the schema of tool {name!r}"
        if draft.rules.json_schema:
            made["parametersJsonSchema"] = portable(schema, where)
        else:
            made["parameters"] = subset(schema, where)
    made.update({key: native[key] for key in _CARRIED if native.get(key) is not None})
    if function.get("strict", tool.get("strict")):
        if draft.rules.validated:
            offer.strict = True
        else:
            draft.drop("tools.strict")
    return made


def _is_empty(schema: dict[str, Any]) -> bool:
    """Whether a schema takes no arguments; an object without properties is not accepted."""
    return schema.keys() <= {"type", "properties", "required", "additionalProperties", "$schema", "title"} and not (
        schema.get("properties") or schema.get("additionalProperties")
    )


def _add_search(draft: Draft, offer: _Offer) -> None:
    options = draft.params.pop("web_search_options", None)
    if options is None:
        return
    for name in options:
        draft.refuse(f"web_search_options.{name}", "its search takes no such option")
    if not any("googleSearch" in tool for tool in offer.native):
        offer.native.append({"googleSearch": {}})


def _choose(choice: Any, offer: _Offer, draft: Draft) -> None:
    if choice is None:
        return
    mode = _mode(choice)
    if mode is not None:
        offer.mode = mode
    elif isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        _allow(choice.get("allowed_tools", choice), offer, draft)
    else:
        name = _name_of(choice)
        if name is None:
            raise InvalidRequestError(
                f"{draft.target}: tool_choice {choice!r} is not known; give 'auto', 'none', 'required' or "
                '{"type": "function", "function": {"name": ...}}'
            )
        offer.mode, offer.names = "ANY", [name]
    if offer.mode == "ANY" and not offer.functions:
        raise InvalidRequestError(f"{draft.target}: tool_choice forces a tool and tools holds no function; give one")


def _name_of(choice: Any) -> str | None:
    if not isinstance(choice, dict) or choice.get("type") not in ("function", "tool", None):
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    return name if isinstance(name, str) else None


def _allow(allowed: dict[str, Any], offer: _Offer, draft: Draft) -> None:
    names = [name for tool in allowed.get("tools") or () if (name := _name_of(tool))]
    if not names:
        raise InvalidRequestError(f"{draft.target}: tool_choice allowed_tools names no function; give tools")
    if allowed.get("mode") == "required":
        offer.mode, offer.names = "ANY", names
    else:
        # Names go with a forced call only; a free choice is narrowed by what is offered.
        offer.functions = [each for each in offer.functions if each["name"] in names]


def _check_functions(draft: Draft, offer: _Offer) -> None:
    if offer.functions and not draft.rules.functions:
        draft.refuse("tools", "it calls no functions", "use a model that does")
        offer.functions = []
    if offer.functions and offer.native and not draft.rules.combination:
        own = next(iter(offer.native[0]))
        draft.refuse(f"tools.{own}", "it does not take Google's tools together with functions", "give one kind")
        offer.native = []


def _calling(offer: _Offer, draft: Draft) -> dict[str, Any]:
    mode = offer.mode
    if mode in (None, "AUTO") and offer.strict:
        mode = "VALIDATED"
    if mode is None:
        return {}
    known = {each.get("name") for each in offer.functions}
    missing = [name for name in offer.names if name not in known]
    if missing:
        raise InvalidRequestError(f"{draft.target}: tool_choice names {missing[0]!r}, which is not among the tools")
    return {"mode": mode, "allowedFunctionNames": offer.names} if offer.names else {"mode": mode}


def _write_format(draft: Draft, offer: _Offer) -> None:
    wanted = draft.params.pop("response_format", None)
    if wanted is None:
        return
    kind = draft.format_kind(wanted)
    if kind == "text":
        return
    schema = _schema_of(wanted, draft) if kind == "json_schema" else None
    if not draft.rules.combination and offer.mode == "NONE":
        # Not to be called is what leaving them out means too.
        offer.functions = []
    if draft.rules.json and (draft.rules.combination or not (offer.functions or offer.native)):
        draft.config["responseMimeType"] = "application/json"
        if schema is not None:
            _put_schema(draft, schema)
    elif schema is not None and offer.functions:
        _offer_schema(draft, offer, schema)
    elif schema is not None:
        text = msgspec.json.encode(schema).decode()
        draft.system.append(f"Answer with one JSON object that fits this JSON schema, and with nothing else:\n{text}")
    else:
        draft.system.append("Answer with one JSON object and nothing else.")


def _schema_of(wanted: dict[str, Any], draft: Draft) -> dict[str, Any]:
    definition = draft.definition(wanted)
    schema: dict[str, Any] = definition["schema"]
    if definition.get("description") and "description" not in schema:
        return {**schema, "description": definition["description"]}
    return schema


def _put_schema(draft: Draft, schema: dict[str, Any]) -> None:
    where = f"{draft.target}: the schema of response_format"
    if draft.rules.json_schema:
        draft.config["responseJsonSchema"] = portable(schema, where)
    else:
        draft.config["responseSchema"] = subset(schema, where)


def _offer_schema(draft: Draft, offer: _Offer, schema: dict[str, Any]) -> None:
    description = schema.get("description") or "Give your answer with this tool."
    function = {"name": SCHEMA_TOOL, "description": description, "parameters": schema}
    offer.functions.append(_declaration(function, offer, draft))
    # Where a function of the caller's is forced, its name stays the only one that is allowed.
    offer.mode = "ANY"
