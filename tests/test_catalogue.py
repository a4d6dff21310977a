import datetime as dt
import importlib.util
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llm_master.catalogue import load_models, load_rows
from llm_master.classify import CATEGORIES
from llm_master.errors import ConfigurationError, ModelNotFoundError
from llm_master.resolution import resolve
from llm_master.rows import SAMPLING, ChatDialect, ProviderRow

ROOT = Path(__file__).resolve().parent.parent
RAW = load_rows()
ROWS = {key: ProviderRow.parse(key, row) for key, row in RAW.items()}
MODELS = load_models()

# Provider -> aliases, key variables and base address, copied from the facts this catalogue was made of.
FACTS = {
    "openai": ("open_ai", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    "anthropic": (
        "claude claudeai claude_ai",
        "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN",
        "https://api.anthropic.com/v1",
    ),
    "openrouter": ("open_router", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    "groq": ("", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    "mistral": ("mistralai mistral_ai", "MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
    "deepseek": ("deep_seek", "DEEPSEEK_API_KEY", "https://api.deepseek.com"),
    "xai": ("x_ai grok spacexai", "XAI_API_KEY", "https://api.x.ai/v1"),
    "together": (
        "togetherai together_ai",
        "TOGETHER_API_KEY TOGETHER_AI_API_KEY TOGETHERAI_API_KEY",
        "https://api.together.ai/v1",
    ),
    "fireworks": (
        "fireworksai fireworks_ai",
        "FIREWORKS_API_KEY FIREWORKS_AI_API_KEY",
        "https://api.fireworks.ai/inference/v1",
    ),
    "ollama": ("", "OLLAMA_API_KEY", "http://127.0.0.1:11434/v1"),
    "lmstudio": ("lm_studio", "LM_STUDIO_API_KEY LMSTUDIO_API_KEY", "http://127.0.0.1:1234/v1"),
    "vllm": ("", "VLLM_API_KEY", "http://127.0.0.1:8000/v1"),
    "sglang": ("", "SGLANG_API_KEY", "http://127.0.0.1:30000/v1"),
    "llamacpp": (
        "llama_cpp llama_cpp_python llamafile",
        "LLAMA_CPP_API_KEY LLAMACPP_API_KEY",
        "http://127.0.0.1:8080/v1",
    ),
    "local": ("", "", None),
    "openai_compatible": ("custom", "OPENAI_COMPATIBLE_API_KEY", None),
}
LOCAL = {"ollama", "lmstudio", "vllm", "sglang", "llamacpp", "local", "openai_compatible"}


def route(name):
    return resolve(name, rows=ROWS, registry={}, provider_map={})


# -- rows ----------------------------------------------------------------------------------------------------------


def test_every_provider_of_the_facts_has_its_row():
    assert FACTS.keys() <= ROWS.keys()


@pytest.mark.parametrize("key", sorted(FACTS))
def test_row_agrees_with_the_facts(key):
    aliases, variables, address = FACTS[key]
    row = ROWS[key]
    assert set(aliases.split()) <= set(row.aliases)
    assert row.key_variables[: len(variables.split())] == tuple(variables.split()) or not variables
    assert row.base_url == address
    assert row.key_optional == (key in LOCAL)


@pytest.mark.parametrize("key", sorted(ROWS))
def test_row_has_a_source_and_a_day(key):
    row = ROWS[key]
    assert re.search(r"https://\S+\.\S+|[a-z][a-z0-9-]+ \d+\.\d+", row.source), row.source
    assert dt.date.fromisoformat(row.checked).isoformat() == row.checked


@pytest.mark.parametrize("key", sorted(ROWS))
def test_address_is_safe(key):
    address = ROWS[key].base_url
    if address is None:
        assert ROWS[key].supervisor or ROWS[key].key_optional
        return
    parts = urlsplit(address)
    assert (parts.scheme == "https") != (parts.hostname == "127.0.0.1")
    assert parts.scheme in {"http", "https"}
    assert not address.endswith("/")
    assert not parts.query
    assert not parts.username


@pytest.mark.parametrize("key", sorted(ROWS))
def test_row_speaks_only_of_what_it_serves(key):
    raw, row = RAW[key], ROWS[key]
    assert row.families
    assert ("chat" in raw) <= ("openai_chat" in row.families)
    assert ("messages" in raw) <= ("anthropic_messages" in row.families)
    assert row.paths.keys() <= {*row.families, "tokenize", "template"}
    assert all(path.startswith("/") for path in row.paths.values())
    assert set(row.error_codes.values()) <= CATEGORIES.keys()
    assert set(row.chat.finish_reasons.values()) <= {"stop", "length", "tool_calls", "content_filter", "error"}


def test_names_are_unique_and_lower_case():
    names = [name for key, row in ROWS.items() for name in (key, *row.aliases)]
    assert sorted(names) == sorted(set(names))
    assert all(name == name.lower() and not set("/: ") & set(name) for name in names)


def test_a_key_variable_belongs_to_one_provider():
    variables = [variable for row in ROWS.values() for variable in row.key_variables]
    assert sorted(variables) == sorted(set(variables))


def test_a_model_key_belongs_to_one_provider():
    parts = [part for row in ROWS.values() for part in row.models]
    assert sorted(parts) == sorted(set(parts))
    assert all(part == part.lower() for row in ROWS.values() for part in (*row.models, *row.not_models))


def test_every_model_key_leads_to_its_row():
    for key, row in ROWS.items():
        for part in row.models:
            name = f"x{part}" if part.startswith((".", ":")) else f"{part.removesuffix('-')}-9z"
            assert route(name).provider == key, part


def test_every_veto_takes_a_name_from_its_row():
    for key, row in ROWS.items():
        free = {key: ProviderRow.parse(key, {**RAW[key], "not_models": []})}
        for veto in row.not_models:
            name = f"z-{row.models[0]}-{veto.upper()}"
            assert resolve(name, rows=free, registry={}, provider_map={}).provider == key
            with pytest.raises(ModelNotFoundError):
                resolve(name, rows={key: row}, registry={}, provider_map={})


def test_rows_are_read_anew():
    load_rows()["openai"]["base_url"] = "changed"
    assert load_rows()["openai"]["base_url"] == FACTS["openai"][2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_ulr": "https://x.example"}, "unknown field 'base_ulr' in its row; did you mean 'base_url'"),
        ({"chat": {"renames": {}}}, "renames"),
        ({"messages": {"max_token": {}}}, "max_token"),
        ({"chat": {"per_model": {"gpt-9": {"effort": []}}}}, "effort"),
        ({"chat": {"per_model": {"gpt-9": {"efforts": "low"}}}}, "array"),
        ({"families": ["openai_chart"]}, "openai_chart"),
        ({"key_optional": "yes"}, "bool"),
    ],
)
def test_a_wrong_row_is_refused(change, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        ProviderRow.parse("openai", {**RAW["openai"], **change})


# -- what a row says of one model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "reasons", "efforts", "tools_effort"),
    [
        ("openai", "gpt-4o-mini", False, None, None),
        ("openai", "ft:gpt-4o:acme:foo1", False, None, None),
        ("openai", "gpt-99", False, None, None),
        ("openai", "O3", True, "low medium high", None),
        ("openai", "gpt-5-mini", True, "minimal low medium high", None),
        ("openai", "gpt-5-chat-latest", False, "", None),
        ("openai", "gpt-5.1", False, "none low medium high xhigh", None),
        ("openai", "gpt-5.4-mini", False, "none low medium high xhigh", None),
        ("openai", "gpt-5.4-pro", True, "medium high xhigh", None),
        ("openai", "gpt-5.6-sol", True, "none low medium high xhigh", "none"),
        ("openai", "gpt-6-astra", True, "low medium high xhigh", None),
        ("openai", "gpt-6.1-sol", True, "low medium high xhigh", None),
        ("openai", "gpt-6.1-terra", True, "none low medium high xhigh", "none"),
        ("groq", "openai/gpt-oss-120b", True, "low medium high", None),
        ("groq", "qwen/qwen3.8-27b", True, "none default", None),
        ("mistral", "mistral-large-4", False, "none high", None),
        ("deepseek", "deepseek-v4-pro", True, "low high max", None),
        ("xai", "grok-4.7", True, "low medium high xhigh", None),
        ("xai", "grok-4.3", True, "none low medium high", None),
        ("xai", "grok-build-0.1", True, "", None),
        ("openai_compatible", "anything", False, None, None),
    ],
)
def test_reasoning_of_a_model(provider, model, reasons, efforts, tools_effort):
    dialect = ROWS[provider].chat.for_model(model)
    assert dialect.reasons is reasons
    assert dialect.efforts == (None if efforts is None else tuple(efforts.split()))
    assert dialect.tools_effort == tools_effort


def test_what_reasoning_models_refuse():
    chat = ROWS["openai"].chat
    assert chat.for_model("gpt-4o").drop_reasoning == frozenset()
    assert chat.for_model("o3").drop_reasoning == SAMPLING
    assert "temperature" in SAMPLING
    assert chat.for_model("o3").drop == {"stop"}
    assert chat.for_model("o1").drop == frozenset()
    assert chat.for_model("gpt-5.1").drop_reasoning == SAMPLING
    assert chat.for_model("gpt-5.4").drop_reasoning == SAMPLING | {"tools"}
    assert ROWS["deepseek"].chat.for_model("deepseek-v4-pro").drop_reasoning == {"forced_tools"}


def test_for_model_changes_only_what_it_names():
    chat = ROWS["openai"].chat
    special = chat.for_model("gpt-5.6-sol")
    assert special.rename == chat.rename == {"max_tokens": "max_completion_tokens"}
    assert special.developer_role
    assert special.per_model == {}
    assert chat.for_model("gpt-99") is chat


def test_the_longest_part_of_a_name_wins():
    dialect = ChatDialect(per_model={"ab": {"think_tags": True}, "abc": {"message_name": False}})
    backwards = ChatDialect(per_model=dict(reversed(dialect.per_model.items())))
    for each in (dialect, backwards):
        assert (each.for_model("xABCx").think_tags, each.for_model("xABCx").message_name) == (False, False)
        assert (each.for_model("xABx").think_tags, each.for_model("xABx").message_name) == (True, True)


def test_every_effort_sent_with_tools_is_one_the_model_knows():
    for row in ROWS.values():
        for part in row.chat.per_model:
            dialect = row.chat.for_model(part)
            assert dialect.tools_effort is None or dialect.tools_effort in (dialect.efforts or ())


def test_dialects_of_the_facts():
    chat = {key: row.chat for key, row in ROWS.items()}
    assert chat["mistral"].rename == {"seed": "random_seed"}
    assert chat["mistral"].tool_ids == "alnum9"
    assert {"user", "logit_bias", "logprobs", "top_logprobs", "store", "metadata"} <= chat["mistral"].drop
    assert {"logprobs", "logit_bias", "top_logprobs"} <= chat["groq"].drop
    assert chat["groq"].clamp == {"n": (1, 1)}
    assert not chat["groq"].message_name
    assert chat["groq"].usage_path == "x_groq.usage"
    assert {"n", "seed", "user"} <= chat["deepseek"].drop
    assert chat["deepseek"].json_schema == "object"
    assert chat["deepseek"].replay_reasoning == "reasoning_content"
    assert chat["deepseek"].cached_tokens_path == "prompt_cache_hit_tokens"
    assert {"stop", "presence_penalty", "frequency_penalty", "logit_bias"} <= chat["xai"].drop
    assert chat["xai"].reasoning_outside
    assert chat["openrouter"].effort_rename == {"max": "xhigh"}
    assert chat["openrouter"].replay_details == "reasoning_details"
    assert chat["openrouter"].cost_path == "usage.cost"
    assert chat["local"].tools_via == "schema"
    assert chat["vllm"].single_system
    without_strict = {"deepseek", "xai", "ollama", "lmstudio", "llamacpp", "local", "openai_compatible"}
    assert {key for key, dialect in chat.items() if not dialect.strict_tools} == without_strict
    assert {key for key, dialect in chat.items() if dialect.developer_role} == {"openai"}
    assert ROWS["anthropic"].auth == "x-api-key"
    assert ROWS["anthropic"].headers == {"anthropic-version": "2023-06-01"}
    assert ROWS["anthropic"].messages.max_tokens["sonnet-4-5"] == 64000


def test_a_word_for_many_parameters_is_spelt_out_when_the_row_is_read():
    dialect = ProviderRow.parse("x", {"chat": {"drop": ["sampling", "seed"]}}).chat
    assert dialect.drop == SAMPLING | {"seed"}
    assert "top_logprobs" in dialect.drop


# -- known models --------------------------------------------------------------------------------------------------


def test_known_models_belong_to_rows_and_have_a_source():
    assert MODELS.keys() <= ROWS.keys()
    for known in MODELS.values():
        assert known.models
        assert re.search(r"\d+\.\d+", known.source)
        dt.date.fromisoformat(known.checked)


def test_known_models_are_reached_under_their_provider():
    for provider, known in MODELS.items():
        names = (*known.models, *known.retired)
        assert len(set(names)) == len(names)
        for name in names:
            found = route(f"{provider}/{name}")
            assert (found.provider, found.model) == (provider, name)


def test_first_party_models_need_no_prefix():
    for provider in ("openai", "anthropic", "mistral", "deepseek", "xai"):
        for name in (*MODELS[provider].models, *MODELS[provider].retired):
            assert route(name).provider == provider, name


def test_a_default_model_is_a_known_one():
    assert ROWS["local"].default_model in MODELS["local"].models


# -- the generated table -------------------------------------------------------------------------------------------


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_providers_is_up_to_date():
    made = generator()
    assert (ROOT / "docs" / "providers.md").read_text(encoding="utf-8") == made.page(ROWS), "run `make docs`"


def test_the_table_in_the_readme_is_up_to_date():
    made = generator()
    for readme in ROOT.glob("README.md"):
        text = readme.read_text(encoding="utf-8")
        assert made.between_markers(text, made.table(ROWS)) == text, "run `make docs`"


def test_the_table_says_what_the_rows_say():
    rows = {
        "b": ProviderRow.parse(
            "b", {"base_url": "https://b.example/v1", "aliases": ["bee"], "key_optional": True, "notes": "x|y"}
        ),
        "a": ProviderRow.parse(
            "a",
            {"key_variables": ["A_KEY", "A2_KEY"], "families": ["anthropic_messages"], "status": "retired 2026-01-02"},
        ),
    }
    assert generator().table(rows).splitlines()[2:] == [
        "| `a` |  | messages | `A_KEY`, `A2_KEY` | yours | **retired 2026-01-02** |",
        "| `b` | `bee` | chat | (`B_API_KEY`) | https://b.example/v1 | x\\|y |",
    ]


def test_only_what_stands_between_the_markers_is_replaced():
    made = generator()
    text = f"before\n{made.BEGIN}\nold\n{made.END}\nafter\n"
    assert made.between_markers(text, "new\n") == f"before\n{made.BEGIN}\nnew\n{made.END}\nafter\n"


@pytest.mark.parametrize(
    "text", ["", "{BEGIN}", "{END}{BEGIN}", "{BEGIN}{BEGIN}{END}{END}", "{BEGIN}{END}{BEGIN}{END}"]
)
def test_markers_that_are_not_there(text):
    made = generator()
    with pytest.raises(ValueError, match="providers:begin"):
        made.between_markers(text.format(BEGIN=made.BEGIN, END=made.END), "new\n")


def test_main_writes_the_page_and_the_readme(tmp_path):
    made = generator()
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"# Title\n\n{made.BEGIN}\n{made.END}\n", encoding="utf-8")
    made.main(tmp_path)
    assert (tmp_path / "docs" / "providers.md").read_text(encoding="utf-8") == made.page(ROWS)
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme == f"# Title\n\n{made.BEGIN}\n{made.table(ROWS)}{made.END}\n"
