"""
One provider as data: its row, and the dialect of a wire family that the row describes.

A row is a plain dict in ``UnifiedProvider.PROVIDER_CONFIGS`` (shipped ones come from ``catalogue/providers.json``);
``ProviderRow.parse`` checks it. All fields have defaults, so a row may be as short as the seed guide's:
``client_class``, ``base_url``, ``api_key_attr``, ``supports_caching``, ``generate_map``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llm_master.built import build
from llm_master.errors import ConfigurationError
from llm_master.key_variables import ALIAS_VARIABLES
from llm_master.media import MediaRule
from llm_master.per_model import PerModel

__all__ = ["BudgetRule", "CachingRule", "ChatDialect", "MessagesDialect", "Placeholder", "ProviderRow"]

Category = Literal[
    "quota", "context", "content", "auth", "not_found", "rate", "overloaded", "server", "timeout", "bad_request"
]
Family = Literal[
    "openai_chat", "anthropic_messages", "openai_responses", "gemini", "cohere", "bedrock", "openai_images", "polling"
]
Service = Literal["chat", "embeddings", "rerank", "images"]

#: Parameters that a reasoning model refuses together.
SAMPLING = frozenset(
    ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs")
)


class BudgetRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How a server that speaks ``openai_chat`` takes ``thinking_budget``, tokens to reason with.

    Attributes:
        field: dotted path in the body of their number.
        on: body fields sent beside a budget, and alone for one without bound (-1).
        off: body fields that switch reasoning off (0); None where no field does.
    """

    field: str
    on: dict[str, Any] = {}
    off: dict[str, Any] | None = None


class ChatDialect(PerModel, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``openai_chat``; the defaults are the conservative ones of an unknown compatible server.

    Attributes:
        rename: parameter -> the name this server wants, ``{"seed": "random_seed"}``. The canonical name of the output
            limit is ``max_tokens`` (``max_completion_tokens`` and ``max_output_tokens`` are taken as synonyms).
        drop: parameters that this server cannot take: an UnsupportedParameterError, or left out with drop_params.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        developer_role: whether role ``developer`` is known; else it is sent as ``system``.
        single_system: join all system messages into one leading message.
        stream_options: whether ``stream_options={"include_usage": true}`` is sent with a stream.
        message_name: whether ``messages[].name`` is accepted; else it is put before the text as ``name: ``.
        strict_tools: whether ``strict`` in tool and schema definitions is accepted; else it is left out.
        inline_defs: whether ``$defs`` of schemas must be inlined.
        tool_ids: ``any``, or ``alnum9``: exactly nine letters and digits (foreign ids are hashed).
        tools_via: ``native``, or ``schema``: tools are offered through a JSON-schema ``response_format``.
        json_schema: ``native``, or ``object``: the server knows only ``json_object``; the schema goes into the prompt.
        efforts: reasoning efforts that the server knows, weakest first; None: passed as given; (): none at all.
        effort_rename: effort -> the server's word, ``{"max": "xhigh"}``.
        budget: its field for ``thinking_budget``; None: a budget becomes the effort that does with it.
        only_fields: what may stand in a ``message``, a ``call`` of a tool and a ``part`` of content, for servers that
            refuse a request with anything else in it; what else is there is left out. {}: anything may.
        flat_parts: whether the content of sound and files stands in the part itself, without an object around it.
        replay_reasoning: the field in which reasoning text is given back in history (``reasoning_content``),
            ``thinking_part`` for a part of the content before the text (Mistral), or None.
        replay_details: field of a message to be replayed unchanged (``reasoning_details``), or None.
        think_tags: whether ``<think>...</think>`` at the start of the content is reasoning.
        reasoning_outside: whether ``completion_tokens`` excludes reasoning (checked against the total).
        cached_tokens_path: dotted path in ``usage`` of cache reads where it is not the usual one.
        usage_path: dotted path of the usage object in the body or a chunk where it is not ``usage``: ``x_groq.usage``.
        cost_path: dotted path in the body of the cost that the server reports, or None.
        cost_unit: how many of its units are one USD.
        finish_reasons: the server's word -> ours, on top of the usual ones.
        reasons: whether the model reasons when no effort is given (an effort other than ``none`` always reasons).
        drop_reasoning: parameters that are refused while it reasons; as ``drop``.
        tools_effort: the effort sent along with tools when the caller gives none, for models that refuse tools
            while they reason.
        prefill: how a model is made to go on with an assistant's turn that stands last: ``turn`` needs nothing more,
            ``prefix`` marks the turn with ``"prefix": true``, ``no`` cannot.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        per_model: part of a model name -> fields of this dialect that replace these for that model; the longest part
            that occurs in the name wins. Taken by ``for_model``.

    Three words in ``drop`` and ``drop_reasoning`` are no parameters: ``sampling`` is replaced by the seven of
    ``SAMPLING`` when the row is read; ``forced_tools`` stands for ``tool_choice`` ``required`` or a named tool,
    ``barred_tools`` for ``none``.
    """

    rename: dict[str, str] = {}
    drop: frozenset[str] = frozenset()
    clamp: dict[str, tuple[float, float]] = {}
    defaults: dict[str, Any] = {}
    developer_role: bool = False
    single_system: bool = False
    stream_options: bool = False
    message_name: bool = True
    strict_tools: bool = True
    inline_defs: bool = False
    tool_ids: Literal["any", "alnum9"] = "any"
    tools_via: Literal["native", "schema"] = "native"
    json_schema: Literal["native", "object"] = "native"
    prefill: Literal["no", "turn", "prefix"] = "no"
    efforts: tuple[str, ...] | None = None
    effort_rename: dict[str, str] = {}
    budget: BudgetRule | None = None
    only_fields: dict[Literal["message", "call", "part"], frozenset[str]] = {}
    flat_parts: bool = False
    replay_reasoning: str | None = None
    replay_details: str | None = None
    think_tags: bool = False
    reasoning_outside: bool = False
    cached_tokens_path: str | None = None
    usage_path: str | None = None
    cost_path: str | None = None
    cost_unit: int = 1
    finish_reasons: dict[str, str] = {}
    reasons: bool = False
    drop_reasoning: frozenset[str] = frozenset()
    tools_effort: str | None = None
    media: dict[str, MediaRule] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.spell_out("sampling", SAMPLING, "drop", "drop_reasoning")

    def parts_in(self, name: str) -> list[str]:
        """The longest part that occurs in a name; no other counts."""
        return super().parts_in(name)[-1:]


class MessagesDialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    How one server speaks ``anthropic_messages``.

    A pattern is a part of a model's name, lower case, dots written as dashes; it counts where no digit follows it, so
    that ``fable-5-2`` is not in ``fable-5-20260609``.

    Attributes:
        max_tokens: patterns of model names -> the output limit sent when the caller gives none; the longest pattern
            that occurs in the name wins, ``""`` is the default.
        no_sampling: patterns of models that reject temperature, top_p and top_k.
        no_forced_tools: patterns of models that reject tool_choice ``any`` and ``tool``.
        no_prefill: patterns of models that reject a trailing assistant message.
        no_thinking: patterns of models that cannot think.
        adaptive_thinking: patterns of models that think adaptively (effort) instead of with a budget.
        no_budget: patterns of those that reject ``thinking.budget_tokens``; the others take both.
        always_thinking: patterns of models whose thinking cannot be switched off.
        between_tools: patterns of those that can at least be held to thinking between tools.
        strict_thinking: whether thinking excludes a temperature other than 1, top_k and a top_p under 0.95, and
            thinking with a budget excludes forced tools too.
        effort: patterns of models that know ``output_config.effort`` -> the efforts, weakest first; the longest wins.
        newest: part of a name -> the pattern of a known model whose rules hold for names with it in which no other
            pattern of this dialect occurs: what comes after the newest takes no more than that one, as far as anybody
            knows.
        effort_needs_thinking: patterns of models that reject ``xhigh`` and ``max`` while thinking is switched off.
        native_schema: patterns of models that know ``output_config.format`` and strict tools; the others get a forced
            tool.
        system_in_messages: patterns of models that honour role ``system`` inside messages.
        clamp: parameter -> [lowest, highest] accepted value; outside is an UnsupportedParameterError, or moved to the
            nearest bound with drop_params.
        defaults: body fields sent unless the caller gives them.
        drop: parameters that this server cannot take.
        media: kind of input -> what is taken of it, in place of ``FAMILY_MEDIA`` of this family.
        model_in_body: whether requests name the model; else their address does.
    """

    max_tokens: dict[str, int] = msgspec.field(default_factory=lambda: {"": 8192})
    no_sampling: tuple[str, ...] = ()
    no_forced_tools: tuple[str, ...] = ()
    no_prefill: tuple[str, ...] = ()
    no_thinking: tuple[str, ...] = ()
    adaptive_thinking: tuple[str, ...] = ()
    no_budget: tuple[str, ...] = ()
    always_thinking: tuple[str, ...] = ()
    between_tools: tuple[str, ...] = ()
    strict_thinking: bool = False
    effort: dict[str, tuple[str, ...]] = {}
    effort_needs_thinking: tuple[str, ...] = ()
    newest: dict[str, str] = {}
    native_schema: tuple[str, ...] = ()
    system_in_messages: tuple[str, ...] = ()
    clamp: dict[str, tuple[float, float]] = msgspec.field(default_factory=lambda: {"temperature": (0.0, 1.0)})
    defaults: dict[str, Any] = {}
    drop: frozenset[str] = frozenset()
    media: dict[str, MediaRule] = {}
    model_in_body: bool = True


class Placeholder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A ``{NAME}`` in an address: an account, a region, a host.

    Attributes:
        variables: environment variables that give it, first one that is set wins.
        default: its value where none is set; None: one must be set.
        form: what stands in the address, ``{}`` being the value.
        forms: values for which something else stands there, ``{"global": "aiplatform.googleapis.com"}``.
    """

    variables: tuple[str, ...]
    default: str | None = None
    form: str = "{}"
    forms: dict[str, str] = {}


class CachingRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What ``use_prompt_caching`` sends in one API family of a provider whose own cache does not come by itself.

    Attributes:
        marks: parts of the names of models whose messages need ``cache_control`` marks, lower case; ``""`` for all.
        body: body fields that ask for caching.
        key: the field that names calls with the same prefix.
    """

    marks: tuple[str, ...] = ()
    body: dict[str, Any] = {}
    key: str = ""


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True):
    """
    A checked row.

    Attributes:
        name: the provider's key.
        base_url: its address without the family's path; None when the user must give it. ``{NAME}`` is filled in from
            ``placeholders``.
        family_urls: family -> address without the family's path, where a family lives beside ``base_url``.
        placeholders: the names in braces of these addresses -> where their values come from.
        base_variables: environment variables of the vendor's own that hold its address; read after ours.
        aliases: other names of the provider, lower case.
        key_variables: environment variables of its key, first one that is set wins.
        api_key_attr: the field of ``LLMConfig`` with its key.
        key_optional: whether it answers without a key (local servers).
        families: API families it serves, the default first.
        model_families: part of a model's name -> the family that serves it, where that is not the default; the longest
            part that occurs in the name wins.
        paths: family -> path appended to the base URL, where it is not the family's own.
        stream_paths: family -> path of its streamed requests, where that is another. Paths, and full endpoints of the
            user's own, may hold ``{model}``; such a family gets the name without ``model_prefix``.
        version_path: what a base URL of the user's own is completed with when it does not end so; the vendor's SDK
            takes its address without it, and so do the environments made for that SDK.
        model_prefix: what is put before a model's name that holds no slash, ``google/``.
        auth: what carries the key: ``bearer``, the name of a header, or header and scheme as ``Authorization: Key``.
        family_auth: family -> ``auth`` of that family, where it differs.
        variable_auth: key variable -> ``auth`` of a key that came from it, where it differs.
        headers: headers sent with every request.
        header_variables: further secrets: ``auth`` -> the environment variables they come from; left out when unset.
        serves: what it does; a chat with one that serves none is refused before any request.
        models: substrings of model names that mean this provider (see ``resolution.py``).
        not_models: substrings that look like it and are not.
        strip_prefix: whether an explicit ``provider/`` prefix is taken off the model name that is sent.
        chat, messages: the dialects of these families.
        responses, gemini, cohere, bedrock: fields of ``ResponsesDialect``, ``GeminiDialect``, ``CohereDialect`` and
            ``BedrockDialect``, read when such a model is first called: they are large, and most programs need none.
        images, polling: fields of ``ImagesDialect`` and ``PollingDialect``, read late as well.
        implementation: ``module:Class`` of the target that calls its models, where the family's usual one does not do.
        error_codes: the provider's code or type -> a category of ``classify.py``.
        signer: ``module:name`` of a function of row, address and configuration that makes what signs requests where no
            key is given, None when it cannot (AWS credentials, Google's application default credentials).
        operations: what it serves beside chat, as in ``catalogue/operations.json``; see ``operations.py``.
        supervisor: ``module:name`` of code that starts the server and gives its address (the embedded model).
        api_key: a key given with the row itself, a ``Secret``; used where the configuration has none.
        free: whether it costs nothing by nature (the embedded model).
        tier_header: the header of an answer that says in which tier it was served, where the body may not.
        status: ``live``, or ``retired DATE`` (``retired_on`` gives the date); successor: what to use instead.
        client_class, generate_map, supports_caching: as in the seed guide.
        caching: family -> what asks for prompt caching there; families without a rule need nothing or have a way.
        base_keys: variable of ``base_variables`` -> variables of the key that goes with an address from there.
        given: settings of ``add_provider`` as they were given, not looked at before use.
        source, checked: where the facts come from and the day they were checked.
    """

    name: str
    base_url: str | None = None
    family_urls: dict[str, str] = {}
    placeholders: dict[str, Placeholder] = {}
    base_variables: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    api_key_attr: str | None = None
    key_optional: bool = False
    families: tuple[Family, ...] = ("openai_chat",)
    model_families: dict[str, Family] = {}
    paths: dict[str, str] = {}
    stream_paths: dict[str, str] = {}
    version_path: str = ""
    model_prefix: str = ""
    auth: str = "bearer"
    family_auth: dict[str, str] = {}
    variable_auth: dict[str, str] = {}
    headers: dict[str, str] = {}
    header_variables: dict[str, tuple[str, ...]] = {}
    serves: tuple[Service, ...] = ("chat",)
    models: tuple[str, ...] = ()
    not_models: tuple[str, ...] = ()
    strip_prefix: bool = True
    chat: ChatDialect = ChatDialect()
    messages: MessagesDialect = MessagesDialect()
    responses: dict[str, Any] = {}
    gemini: dict[str, Any] = {}
    cohere: dict[str, Any] = {}
    bedrock: dict[str, Any] = {}
    images: dict[str, Any] = {}
    polling: dict[str, Any] = {}
    implementation: str | None = None
    error_codes: dict[str, Category] = {}
    signer: str | None = None
    supervisor: str | None = None
    operations: dict[str, Any] | None = None
    default_model: str | None = None
    tier_header: str | None = None
    status: str = "live"
    successor: str | None = None
    client_class: Any = None
    generate_map: dict[str, str] = {}
    supports_caching: bool = False
    caching: dict[Family, CachingRule] = {}
    base_keys: dict[str, tuple[str, ...]] = {}
    given: dict[str, Any] = {}
    free: bool = False
    api_key: Any = None
    notes: str = ""
    source: str = ""
    checked: str = ""

    @classmethod
    def parse(cls, name: str, row: Mapping[str, Any]) -> ProviderRow:
        """
        Check a row.

        Raises:
            ConfigurationError: a field is unknown or has the wrong type; the message names the nearest field.
        """
        known = set(cls.__struct_fields__) - {"name"}
        for field in row:
            if field not in known:
                import difflib

                near = difflib.get_close_matches(field, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
                raise ConfigurationError(f"provider {name!r}: unknown field {field!r} in its row{hint}")
        _ready()
        try:
            parsed = msgspec.convert({**row, "name": name}, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"provider {name!r}: its row is wrong: {error}") from error
        _check_placeholders(parsed)
        if parsed.api_key_attr is None:
            parsed = msgspec.structs.replace(parsed, api_key_attr=f"{name}_api_key")
        if not parsed.key_variables:
            parsed = msgspec.structs.replace(parsed, key_variables=(f"{name.upper()}_API_KEY",))
        return parsed

    @property
    def retired_on(self) -> str | None:
        """The day the service ended, ``2026-07-30``; None while it is live or where the day is not known."""
        return self.status.partition(" ")[2] or None

    @property
    def alias_variables(self) -> tuple[str, ...]:
        """The key variables of its aliases, read when none of ``key_variables`` is set; those of shipped rows only."""
        return ALIAS_VARIABLES.get(self.name, ())

    @property
    def chats(self) -> bool:
        """Whether it serves chat at all."""
        return "chat" in self.serves


@functools.cache
def _ready() -> None:
    build(ProviderRow)


def _check_placeholders(row: ProviderRow) -> None:
    urls = (row.base_url or "", *row.family_urls.values())
    used = {name for url in urls if "{" in url for name in re.findall(r"\{([^{}]*)\}", url)}
    if used != row.placeholders.keys():
        wrong = sorted(used ^ row.placeholders.keys())
        raise ConfigurationError(
            f"provider {row.name!r}: {', '.join(wrong)} must stand both in an address, in braces, and in placeholders"
        )
