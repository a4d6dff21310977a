import pytest

from llm_master.catalogue import load_rows
from llm_master.classes import ModelConfig
from llm_master.errors import ConfigurationError, InvalidRequestError, ModelNotFoundError
from llm_master.resolution import Route, resolve
from llm_master.rows import ProviderRow

SHIPPED = {key: ProviderRow.parse(key, row) for key, row in load_rows().items()}


class Custom:
    """Stands for a provider class of a user's own."""


class Other:
    """A second one."""


def go(name, *, rows=SHIPPED, registry=None, provider_map=None, extra=()) -> Route:
    return resolve(name, rows=rows, registry=registry or {}, provider_map=provider_map or {}, extra_prefixes=extra)


def rows_of(**rows) -> dict[str, ProviderRow]:
    return {key: ProviderRow.parse(key, row) for key, row in rows.items()}


# -- explicit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("openai:gpt-4o", "openai", "gpt-4o"),
        ("OpenAI/GPT-4o", "openai", "GPT-4o"),
        ("claude/whatever", "anthropic", "whatever"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("openai/gpt-oss-120b", "openai", "gpt-oss-120b"),
        ("openrouter/meta-llama/Llama-4:free", "openrouter", "meta-llama/Llama-4:free"),
        ("ollama/gpt-oss:20b", "ollama", "gpt-oss:20b"),
        ("ollama:llama3:8b", "ollama", "llama3:8b"),
        ("lm_studio/Qwen/Qwen3", "lmstudio", "Qwen/Qwen3"),
        ("llama_cpp_python/x", "llamacpp", "x"),
        ("openai-compatible/my-model", "openai_compatible", "my-model"),
        ("local:/models/Tiny Llama.GGUF", "local", "/models/Tiny Llama.GGUF"),
        ("openai/ gpt-4o ", "openai", " gpt-4o "),
    ],
)
def test_explicit(name, provider, model):
    route = go(name)
    assert (route.provider, route.model, route.how, route.provider_class) == (provider, model, "explicit", None)


def test_every_alias_is_a_prefix():
    for key, row in SHIPPED.items():
        for alias in (key, *row.aliases):
            for spelling in (alias, alias.upper(), alias.title()):
                route = go(f"{spelling}/Some-Model")
                assert (route.provider, route.model, route.key) == (key, "Some-Model", alias)


def test_an_alias_of_two_rows_does_not_depend_on_their_order():
    rows = rows_of(zed={"aliases": ["shared"]}, abe={"aliases": ["Shared"]}, own={"aliases": ["zed"]})
    for each in (rows, dict(reversed(rows.items()))):
        assert go("shared/x", rows=each).provider == "abe"
        assert go("zed/x", rows=each).provider == "zed"


def test_an_unknown_prefix_is_part_of_the_name():
    assert go("deepseek-ai/DeepSeek-V4") == Route(
        provider="deepseek", model="deepseek-ai/DeepSeek-V4", how="map", key="deepseek"
    )
    assert go("accounts/fireworks/models/Foo").model == "accounts/fireworks/models/Foo"
    assert go("accounts/fireworks/models/Foo").provider == "fireworks"


def test_a_registered_class_is_a_prefix():
    route = go("SellTime/Model-1", extra=["selltime"])
    assert (route.provider, route.model, route.how) == ("selltime", "Model-1", "explicit")
    with pytest.raises(ModelNotFoundError, match=r"Unsupported model: selltime; .* selltime/MODEL$"):
        go("selltime", extra=["selltime"])


def test_a_row_may_keep_the_prefix():
    rows = rows_of(perplexity={"strip_prefix": False})
    assert go("Perplexity/Sonar", rows=rows).model == "Perplexity/Sonar"


def test_a_provider_alone_is_its_default_model():
    assert go("local") == Route(provider="local", model=SHIPPED["local"].default_model, how="explicit", key="local")
    assert go("LOCAL").model == go("local:").model == go("local").model


def test_a_provider_alone_without_a_default_model_says_what_to_add():
    with pytest.raises(ModelNotFoundError) as caught:
        go("Claude")
    message = str(caught.value)
    assert message.startswith("Unsupported model: Claude; it names the provider anthropic and no model; add one")
    assert "anthropic/claude-sonnet-5-5" in message
    assert caught.value.suggestions[0] == "anthropic/claude-sonnet-5-5"
    assert caught.value.model == "Claude"
    with pytest.raises(ModelNotFoundError, match=r"add one: vllm/MODEL$"):
        go("vllm/")


def test_a_retired_row_still_resolves():
    rows = rows_of(gone={"status": "retired 2026-07-30", "models": ["gone-"]})
    assert go("gone/x", rows=rows).provider == go("gone-1", rows=rows).provider == "gone"


def test_responses_prefix():
    assert go("responses-gpt-4o") == Route(provider="openai", model="gpt-4o", how="map", key="gpt", api="responses")
    assert go("Responses-OpenAI/o3") == Route(
        provider="openai", model="o3", how="explicit", key="openai", api="responses"
    )
    assert go("gpt-4o").api is None


def test_responses_prefix_is_not_taken_off_a_name_that_is_known_with_it():
    route = go("responses-gpt", provider_map={"responses-": (None, Custom)})
    assert (route.model, route.provider_class, route.api) == ("responses-gpt", Custom, None)
    route = go("responses-gpt", registry={"responses-gpt": ModelConfig(provider="groq")})
    assert (route.model, route.provider, route.api) == ("responses-gpt", "groq", None)


# -- registry ------------------------------------------------------------------------------------------------------


def test_registry_routes_and_renames():
    registry = {"Fast": ModelConfig(provider="GROQ", model="openai/gpt-oss-20b")}
    expected = Route(provider="groq", model="openai/gpt-oss-20b", how="registry", key="Fast")
    assert go("Fast", registry=registry) == go("fast", registry=registry) == expected


def test_registry_entry_with_a_provider_is_not_split():
    registry = {"openai/gpt-oss-120b": ModelConfig(provider="groq")}
    route = go("OpenAI/GPT-oss-120b", registry=registry)
    assert (route.provider, route.model, route.how) == ("groq", "openai/gpt-oss-120b", "registry")


def test_registry_entry_beats_the_map():
    route = go("gpt-mine", registry={"gpt-mine": ModelConfig(provider="vllm")})
    assert (route.provider, route.model) == ("vllm", "gpt-mine")


def test_prices_alone_do_not_change_the_way():
    prices = ModelConfig(input_price_per_million=1.0, rate_limit_rpm=3)
    for name in ("openai/gpt-4o", "groq/openai/gpt-oss-120b", "claude-sonnet-5-5", "local"):
        assert go(name, registry={name: prices}) == go(name)
    with pytest.raises(ModelNotFoundError):
        go("new-model", registry={"new-model": prices})


def test_registry_may_rename_only():
    registry = {"smart": ModelConfig(model="anthropic/claude-opus-5-5")}
    assert go("Smart", registry=registry) == Route(
        provider="anthropic", model="claude-opus-5-5", how="registry", key="smart"
    )


def test_registry_names_that_differ_in_case():
    registry = {"Twin": ModelConfig(provider="groq"), "twin": ModelConfig(provider="mistral")}
    backwards = dict(reversed(registry.items()))
    assert go("Twin", registry=registry).provider == "groq"
    assert go("twin", registry=registry).provider == "mistral"
    assert go("TWIN", registry=registry) == go("TWIN", registry=backwards)


def test_registry_with_an_unknown_provider():
    with pytest.raises(ConfigurationError, match=r"registry entry 'x' names the provider 'nowhere'.*anthropic"):
        go("x", registry={"x": ModelConfig(provider="nowhere")})


# -- the map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gpt-4o", "openai"),
        ("gpt4", "openai"),
        ("GPT-4.1", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("ft:gpt-4o-mini:acme::7p4l", "openai"),
        ("o1", "openai"),
        ("o3", "openai"),
        ("o3-mini", "openai"),
        ("O4-mini-2025-04-16", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-3-5-sonnet-latest", "anthropic"),
        ("Claude-Sonnet-5-5", "anthropic"),
        ("mistral-large-4", "mistral"),
        ("open-mixtral-8x22b", "mistral"),
        ("codestral-latest", "mistral"),
        ("deepseek-v4-pro", "deepseek"),
        ("grok-4.7", "xai"),
        ("mistral-7b.Q4_K_M.gguf", "llamacpp"),
        ("/models/gpt-something.GGUF", "llamacpp"),
        ("deepseek-r1:latest", "ollama"),
        ("gemini-4-argon", "gemini"),
        ("models/gemini-2.5-flash", "gemini"),
        ("projects/p/locations/l/publishers/google/models/gemini-3-flash", "vertex"),
        ("command-a-03-2025", "cohere"),
        ("command-r7b", "cohere"),
        ("kimi-k3.1-pro", "moonshot"),
        ("moonshot-v1-8k", "moonshot"),
        ("Qwen3-Max", "dashscope"),
        ("qwq-plus", "dashscope"),
        ("glm-5.3", "zai"),
        ("MiniMax-M3", "minimax"),
        ("muse-spark-1.1", "meta"),
        ("sonar", "perplexity"),
        ("mercury-2", "inception"),
        ("jamba-large", "ai21"),
        ("voyage-4", "voyage"),
        ("rerank-2.5", "voyage"),
        ("@cf/meta/llama-4-scout", "cloudflare"),
        ("databricks-claude-sonnet-5", "databricks"),
        ("nemotron-3-ultra", "nvidia"),
        ("anthropic.claude-v2", "bedrock"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock"),
        ("openai.gpt-oss-120b-1:0", "bedrock"),
        ("mistral.mistral-large-2402-v1:0", "bedrock"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-opus-5", "bedrock"),
        ("flux-pro-1.1", "bfl"),
        ("flux-2-max", "bfl"),
        ("recraftv4_1", "recraft"),
        ("recraft-image-gen", "recraft"),
        ("fal-ai/flux/dev", "fal"),
    ],
)
def test_shipped_names(name, provider):
    route = go(name)
    assert (route.provider, route.model, route.how) == (provider, name, "map")


@pytest.mark.parametrize(
    "name",
    [
        *("olmo", "OLMo-2-7b", "openchat", "openchat-3.5", "foo1", "foo3", "o10", "o1x", "qo4", "solo3-base"),
        *("gpt-oss-120b", "gpt-oss:20b", "acme/GPT-OSS", "Llama-2-7B-GPTQ", "gpt-neox-20b", "gpt-j-6b", "DialoGPT"),
        *("text-embedding-004", "whisper-large-v3", "watts-7b", "himalaya-7b", "chatglm3-6b", "supercommand-r"),
        *("qwen3:8b", "kimi-k2:1t", "glm-4:9b", "deepseek-r1-distill-qwen-7b", "zai-glm-4.7", "meta-llama/Llama-3-70b"),
        *("deepseek-r1:8b", "llama-3.3-70b", "xyzzy", "responses-", "responses-olmo", "/", ":", "unknown/thing"),
    ],
)
def test_names_of_nobody(name):
    with pytest.raises(ModelNotFoundError) as caught:
        go(name)
    first, slash, rest = name.partition("/")
    said = f"; there is no provider {first!r}" if first and slash and rest else ""
    assert str(caught.value).startswith(f"Unsupported model: {name}{said}; did you mean ")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        *((f"{before}{name}", provider) for before in ("x", "My") for name, provider in [("gptnano", "openai")]),
        ("himalayas", "xai"),
    ],
)
def test_only_a_users_key_counts_inside_a_word(name, provider):
    with pytest.raises(ModelNotFoundError):
        go(name)
    table = {"gptn": ("openai", None), "malaya": ("xai", None)}
    assert go(name, provider_map=table).provider == provider


def test_boundary_beats_inside_beats_nothing():
    table = {"deepthought": ("xai", None), "nano": ("groq", None)}
    assert go("mydeepthoughts-nano", provider_map=table).provider == "groq"
    assert go("mydeepthoughts-nanotube", provider_map=table).provider == "xai"


def test_the_best_place_of_a_key_counts():
    table = {"cat": ("xai", None), "concat": ("groq", None)}
    assert go("concats-cat", provider_map=table).provider == "xai"
    assert go("cat-concats", provider_map=table).provider == "xai"


def test_three_letters_count_inside_a_word_and_two_do_not():
    assert go("zabcz", provider_map={"abc": ("xai", None)}).provider == "xai"
    with pytest.raises(ModelNotFoundError):
        go("zabz", provider_map={"ab": ("xai", None)})
    assert go("z-ab-z", provider_map={"ab": ("xai", None)}).provider == "xai"


def test_a_digit_ends_a_word_but_not_a_number():
    table = {"zeta": ("xai", None), "zeta4turbo": ("groq", None), "v2": ("mistral", None)}
    assert go("zeta4turbos", provider_map=table).provider == "xai"
    assert go("x-v2", provider_map=table).provider == "mistral"
    with pytest.raises(ModelNotFoundError):
        go("x-v20", provider_map=table)


def test_longest_key_wins():
    table = {"flux": ("xai", None), "flux-pro": ("groq", None)}
    assert go("flux-pro-1.1", provider_map=table).provider == "groq"
    assert go("flux-dev", provider_map=table).provider == "xai"
    assert go("flux-turbo", provider_map={**table, "turbo": ("groq", None)}).provider == "groq"


def test_equal_keys_are_told_apart_by_place_then_alphabet():
    table = {"bbb": ("xai", None), "aaa": ("groq", None), "aaa-": ("mistral", None), "-aaa": ("vllm", None)}
    assert go("bbb-aaa", provider_map={k: table[k] for k in ("aaa", "bbb")}).provider == "xai"
    assert go("x-aaa-y", provider_map=table).provider == "vllm"


def test_a_users_entry_overrides_a_shipped_key():
    route = go("gpt-4o", provider_map={"GPT": (None, Custom)})
    assert (route.provider, route.provider_class, route.key) == (None, Custom, "GPT")
    route = go("gpt-4o", provider_map={"gpt": ("Open_Router", Other)})
    assert (route.provider, route.provider_class) == ("openrouter", Other)


def test_keys_that_differ_only_in_case():
    table = {"Zeta": (None, Custom), "zeta": (None, Other)}
    assert go("zeta", provider_map=table) == go("zeta", provider_map=dict(reversed(table.items())))


def test_a_rows_own_substrings_are_taken_in_any_case():
    route = go("MYMODEL-1", rows=rows_of(mine={"models": ["MyModel"]}))
    assert (route.provider, route.model, route.key) == ("mine", "MYMODEL-1", "MyModel")


def test_vetoes_hold_for_shipped_keys_only():
    shipped = {"gpt": ("openai", Custom)}
    assert go("gpt-4o", provider_map=shipped).provider_class is Custom
    with pytest.raises(ModelNotFoundError):
        go("gpt-oss-120b", provider_map=shipped)
    assert go("gpt-oss-120b", provider_map={"gpt-oss": ("openai", None)}).provider == "openai"
    assert go("gpt-oss-120b", provider_map={"gpt": ("groq", None)}).provider == "groq"


def test_the_guides_custom_class():
    route = go("flux-pro-1.1", provider_map={"flux": (None, Custom)})
    assert route == Route(provider=None, provider_class=Custom, model="flux-pro-1.1", how="map", key="flux")


def test_a_users_key_that_is_also_a_providers_name():
    route = go("Claude", provider_map={"claude": (None, Custom)})
    assert (route.model, route.provider_class) == ("Claude", Custom)
    assert go("claude/x", provider_map={"claude": (None, Custom)}).provider == "anthropic"


def test_an_empty_key_matches_nothing():
    with pytest.raises(ModelNotFoundError):
        go("zzz", provider_map={"": (None, Custom)})


# -- an unknown provider before the slash --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("opnai/gpt-4o", "openai/gpt-4o"),
        ("OpnAI/GPT-4o", "openai/GPT-4o"),
        ("opnai:gpt-4o", "openai/gpt-4o"),
        ("azzure/gpt-4o", "azure/gpt-4o"),
        ("antropic/claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        ("mistrall-ai/codestral-latest", "mistral/codestral-latest"),
        ("acme/deepseek-v4-pro", "deepseek-v4-pro"),
        ("acme/flux-2-pro", None),
        ("unsloth/mistral-7b", None),
        ("zai-org/GLM-5.3", "zai/GLM-5.3"),
        ("gogle/gemini-4-argon", "vertex/google/gemini-4-argon"),
    ],
)
def test_an_unknown_provider_is_an_error_with_the_nearest_names(name, nearest):
    with pytest.raises(ModelNotFoundError) as caught:
        go(name)
    error = caught.value
    prefix = name.replace(":", "/").partition("/")[0]
    shown = ", ".join(error.suggestions)
    assert str(error) == f"Unsupported model: {name}; there is no provider {prefix!r}; did you mean {shown}?"
    assert nearest is None or nearest in error.suggestions
    assert all(go(suggestion).provider in SHIPPED for suggestion in error.suggestions)


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("deepseek-ai/DeepSeek-V4-Pro-0813", "deepseek"),
        ("x-ai/grok-4.7", "xai"),
        ("X.AI/Grok-9", "xai"),
        ("z-ai/glm-5.3", "zai"),
        ("deep-seek/deepseek-v4-pro", "deepseek"),
        ("accounts/fireworks/models/kimi-k3p1-pro", "fireworks"),
        ("black-forest-labs/flux-2-pro", "bfl"),
        ("some/where/mistral-7b.Q4.gguf", "llamacpp"),
        ("library/llama3:latest", "ollama"),
        ("ft:gpt-4o-mini:acme::7p4l", "openai"),
        ("ft:open-mistral-7b:acme", "mistral"),
        ("mistral-small:24b", "mistral"),
        ("/gpt-4o", "openai"),
    ],
)
def test_a_name_that_speaks_of_its_provider_keeps_its_way_and_is_sent_whole(name, provider):
    assert go(name) == Route(provider=provider, model=name, how="map", key=go(name).key)


@pytest.mark.parametrize("name", ["meta-llama/Llama-3-70b", "black-forest-labs/flux", "opnai/gpt-4o", "opnai:gpt-4o"])
def test_a_users_own_entries_lead_wherever_they_say(name):
    table = {"llama": (None, Custom), "flux": (None, Custom), "gpt": (None, Custom)}
    route = go(name, provider_map=table)
    assert (route.provider_class, route.model, route.how) == (Custom, name, "map")
    registry = {name.lower(): ModelConfig(provider="together")}
    route = go(name, registry=registry)
    assert (route.provider, route.how) == ("together", "registry")
    assert go(name, rows=rows_of(**{name.replace(":", "/").split("/")[0]: {}})).how == "explicit"


def test_the_shipped_map_of_a_client_is_held_back_too():
    shipped = {part: (key, Custom) for key, row in SHIPPED.items() for part in row.models}
    with pytest.raises(ModelNotFoundError, match="there is no provider 'opnai'"):
        go("opnai/gpt-4o", provider_map=shipped)
    assert go("deepseek-ai/DeepSeek-V4", provider_map=shipped).provider == "deepseek"


def test_a_retired_provider_is_not_suggested():
    with pytest.raises(ModelNotFoundError) as caught:
        go("meta-lama/some-model")
    assert not any(each.startswith("meta_llama") for each in caught.value.suggestions)
    with pytest.raises(ModelNotFoundError) as caught:
        go("githb/gpt-4o")
    assert not any(each.startswith("github") for each in caught.value.suggestions)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "  ", "\n", None, 7, b"gpt-4o"])
def test_no_name(name):
    with pytest.raises(InvalidRequestError, match="model name"):
        go(name)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gtp-4o", "gpt-4o"),
        ("claud-sonnet-5-5", "claude-sonnet-5-5"),
        ("lokal", "local"),
        ("gorq/my-model", "groq/my-model"),
        ("gpt-oss:20b", "ollama/gpt-oss:20b"),
    ],
)
def test_nearest_name(name, nearest):
    with pytest.raises(ModelNotFoundError) as caught:
        go(name)
    error = caught.value
    assert error.suggestions[0] == nearest
    assert len(error.suggestions) == 3
    said = "; there is no provider 'gorq'" if "/" in name else ""
    assert str(error) == f"Unsupported model: {name}{said}; did you mean {', '.join(error.suggestions)}?"
    assert error.model == name


def test_open_weights_are_suggested_where_they_are_served():
    with pytest.raises(ModelNotFoundError) as caught:
        go("gpt-oss-120b")
    assert "groq/openai/gpt-oss-120b" in caught.value.suggestions


def test_a_suggestion_keeps_the_provider_that_serves_it():
    with pytest.raises(ModelNotFoundError) as caught:
        go("claud-sonnet-5.5")
    assert "openrouter/anthropic/claude-sonnet-5.5" in caught.value.suggestions
    assert "anthropic/claude-sonnet-5.5" not in caught.value.suggestions


@pytest.mark.parametrize(
    ("name", "names", "nearest"),
    [
        ("abcdef", ["fedcba", "efdcba", "dcbafe", "cfedba", "abcdxx"], "abcdxx"),
        ("tiny-modem", ["some/rather/long/way/to/tiny-model", "tiny-xxxxx", "tiny-yyyyy", "tiny-zzzzz"], "tiny-model"),
        ("ABC", ["abc1", "xyz", "ABx", "zzz"], "abc1"),
    ],
)
def test_likeness_is_of_order_of_the_last_part_and_without_case(name, names, nearest):
    with pytest.raises(ModelNotFoundError) as caught:
        go(name, rows={}, registry={each: ModelConfig() for each in names})
    assert caught.value.suggestions[0].rpartition("/")[2] == nearest


def test_registered_names_are_suggested():
    registry = {"acme-tiny": ModelConfig(provider="vllm")}
    with pytest.raises(ModelNotFoundError) as caught:
        go("amce-tiny", registry=registry)
    assert caught.value.suggestions[0] == "acme-tiny"


def test_suggestions_resolve():
    for name in ("gtp-4o", "xyzzy", "olmo", "lama3", "anthropc/x", "grook", "gpt-oss-20b", "kimi"):
        with pytest.raises(ModelNotFoundError) as caught:
            go(name)
        for suggestion in caught.value.suggestions:
            assert go(suggestion).provider in SHIPPED


def test_a_very_long_name_is_cut_in_the_message():
    with pytest.raises(ModelNotFoundError) as caught:
        go("z" * 100_000)
    assert len(str(caught.value)) < 1_000


def test_nothing_to_suggest_from():
    with pytest.raises(ModelNotFoundError) as caught:
        go("x", rows={})
    assert str(caught.value) == "Unsupported model: x"
    assert caught.value.suggestions == ()
