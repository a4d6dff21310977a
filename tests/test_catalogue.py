import datetime as dt
import importlib.util
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from llm_master.catalogue import load_models, load_rows
from llm_master.classify import CATEGORIES
from llm_master.config import KEY_VARIABLES
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
    "openai_compatible": ("openai-compatible", "OPENAI_COMPATIBLE_API_KEY", None),
    "cerebras": (
        "",
        "CEREBRAS_API_KEY",
        "https://api.cerebras.ai/v1",
    ),
    "perplexity": (
        "pplx perplexityai",
        "PERPLEXITY_API_KEY PERPLEXITYAI_API_KEY PPLX_API_KEY",
        "https://api.perplexity.ai/v1",
    ),
    "sambanova": (
        "samba_nova",
        "SAMBANOVA_API_KEY",
        "https://api.sambanova.ai/v1",
    ),
    "nvidia": (
        "nvidia_nim nim",
        "NVIDIA_API_KEY NVIDIA_NIM_API_KEY",
        "https://integrate.api.nvidia.com/v1",
    ),
    "nebius": (
        "nebius_token_factory",
        "NEBIUS_API_KEY",
        "https://api.tokenfactory.nebius.com/v1",
    ),
    "cohere": (
        "",
        "COHERE_API_KEY CO_API_KEY",
        "https://api.cohere.com/v2",
    ),
    "moonshot": (
        "moonshotai moonshot_ai kimi",
        "MOONSHOT_API_KEY MOONSHOTAI_API_KEY KIMI_API_KEY",
        "https://api.moonshot.ai/v1",
    ),
    "dashscope": (
        "dash_scope alibaba alibaba_cloud qwen model_studio",
        "DASHSCOPE_API_KEY ALIBABA_API_KEY QWEN_API_KEY",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    "cloudflare": (
        "cloudflare_workers_ai workers_ai",
        "CLOUDFLARE_API_TOKEN CLOUDFLARE_API_KEY",
        "https://api.cloudflare.com/client/v4/accounts/{CLOUDFLARE_ACCOUNT_ID}/ai/v1",
    ),
    "cloudflare_gateway": (
        "cloudflare_ai_gateway ai_gateway",
        "CLOUDFLARE_AI_GATEWAY_API_KEY CF_AIG_TOKEN",
        "https://gateway.ai.cloudflare.com/v1/{CLOUDFLARE_ACCOUNT_ID}/{CLOUDFLARE_GATEWAY_ID}/compat",
    ),
    "github_models": (
        "github",
        "GITHUB_TOKEN GITHUB_API_KEY",
        "https://models.github.ai/inference",
    ),
    "bedrock": (
        "amazon_bedrock aws_bedrock aws",
        "AWS_BEARER_TOKEN_BEDROCK",
        "https://bedrock-runtime.{AWS_REGION}.amazonaws.com",
    ),
    "foundry": (
        "microsoft_foundry ms_foundry azure_foundry azure_ai",
        "AZURE_AI_API_KEY AZURE_FOUNDRY_API_KEY AZURE_API_KEY",
        "https://{AZURE_FOUNDRY_RESOURCE}.services.ai.azure.com/openai/v1",
    ),
    "azure": (
        "azure_openai azure_open_ai",
        "AZURE_OPENAI_API_KEY AZURE_API_KEY AZURE_OPENAI_AD_TOKEN",
        "https://{AZURE_OPENAI_RESOURCE}.openai.azure.com/openai/v1",
    ),
    "gemini_openai": (
        "gemini_enterprise google_gemini_enterprise google_openai",
        "GEMINI_API_KEY GOOGLE_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    "vertex": (
        "vertexai vertex_ai google_vertexai google",
        "VERTEX_ACCESS_TOKEN GOOGLE_OAUTH_ACCESS_TOKEN CLOUDSDK_AUTH_ACCESS_TOKEN",
        "https://{VERTEX_HOST}/v1/projects/{GOOGLE_CLOUD_PROJECT}/locations/{GOOGLE_CLOUD_LOCATION}",
    ),
    "gemini": (
        "googleai google_ai google_genai",
        "GEMINI_API_KEY GOOGLE_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta",
    ),
    "huggingface": (
        "hf hf_router",
        "HF_TOKEN HUGGINGFACE_API_KEY HUGGING_FACE_HUB_TOKEN",
        "https://router.huggingface.co/v1",
    ),
    "deepinfra": (
        "deep_infra",
        "DEEPINFRA_API_KEY DEEPINFRA_TOKEN",
        "https://api.deepinfra.com/v1/openai",
    ),
    "novita": (
        "novita_ai",
        "NOVITA_API_KEY",
        "https://api.novita.ai/openai/v1",
    ),
    "zai": (
        "z_ai z.ai zhipu zhipuai bigmodel glm",
        "ZAI_API_KEY ZHIPU_API_KEY ZHIPUAI_API_KEY",
        "https://api.z.ai/api/paas/v4",
    ),
    "minimax": (
        "mini_max",
        "MINIMAX_API_KEY",
        "https://api.minimax.io/v1",
    ),
    "meta": (
        "meta_ai muse",
        "MODEL_API_KEY META_API_KEY",
        "https://api.meta.ai/v1",
    ),
    "meta_llama": (
        "llama_api",
        "LLAMA_API_KEY",
        "https://api.llama.com/compat/v1",
    ),
    "ai21": (
        "",
        "AI21_API_KEY",
        "https://api.ai21.com/studio/v1",
    ),
    "vercel": (
        "vercel_ai_gateway",
        "AI_GATEWAY_API_KEY VERCEL_AI_GATEWAY_API_KEY",
        "https://ai-gateway.vercel.sh/v1",
    ),
    "voyage": (
        "voyageai",
        "VOYAGE_API_KEY",
        "https://api.voyageai.com/v1",
    ),
    "databricks": (
        "",
        "DATABRICKS_TOKEN",
        "https://{DATABRICKS_HOST}/serving-endpoints",
    ),
    "inception": (
        "",
        "INCEPTION_API_KEY",
        "https://api.inceptionlabs.ai/v1",
    ),
    "scaleway": (
        "",
        "SCW_SECRET_KEY",
        "https://api.scaleway.ai/v1",
    ),
    "baseten": (
        "",
        "BASETEN_API_KEY",
        "https://inference.baseten.co/v1",
    ),
    "wandb": (
        "weights_biases",
        "WANDB_API_KEY",
        "https://api.inference.wandb.ai/v1",
    ),
    "ovhcloud": (
        "ovh",
        "OVHCLOUD_API_KEY OVH_AI_ENDPOINTS_ACCESS_TOKEN",
        "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
    ),
    "bfl": (
        "black_forest_labs flux",
        "BFL_API_KEY",
        "https://api.bfl.ai/v1",
    ),
    "recraft": (
        "",
        "RECRAFT_API_TOKEN RECRAFT_API_KEY",
        "https://external.api.recraft.ai/v1",
    ),
    "replicate": (
        "",
        "REPLICATE_API_TOKEN",
        "https://api.replicate.com/v1",
    ),
    "fal": (
        "fal_ai",
        "FAL_KEY FAL_API_KEY",
        "https://queue.fal.run",
    ),
}
# The names of STATEK's providers, each line one provider under the key that it has here.
STATEK = """
    openai OPENAI
    openrouter OPENROUTER
    groq GROQ
    mistral MISTRAL MISTRALAI MISTRAL_AI
    deepseek DEEPSEEK DEEP_SEEK
    xai XAI X_AI GROK
    together TOGETHER TOGETHERAI TOGETHER_AI
    fireworks FIREWORKS FIREWORKSAI FIREWORKS_AI
    cerebras CEREBRAS
    perplexity PERPLEXITY
    sambanova SAMBANOVA SAMBA_NOVA
    nvidia NVIDIA NVIDIA_NIM NIM
    nebius NEBIUS
    cohere COHERE
    moonshot MOONSHOT MOONSHOTAI MOONSHOT_AI KIMI
    dashscope DASHSCOPE DASH_SCOPE ALIBABA ALIBABA_CLOUD QWEN
    cloudflare CLOUDFLARE CLOUDFLARE_WORKERS_AI WORKERS_AI
    cloudflare_gateway CLOUDFLARE_AI_GATEWAY AI_GATEWAY
    github_models GITHUB GITHUB_MODELS
    bedrock BEDROCK AMAZON_BEDROCK AWS_BEDROCK
    foundry MICROSOFT_FOUNDRY MS_FOUNDRY AZURE_FOUNDRY
    azure AZURE_OPENAI AZURE_OPEN_AI
    gemini_openai GEMINI_ENTERPRISE GOOGLE_GEMINI_ENTERPRISE GOOGLE_OPENAI
    ollama OLLAMA
    lmstudio LMSTUDIO LM_STUDIO
    vllm VLLM
    sglang SGLANG
    llamacpp LLAMA_CPP LLAMACPP LLAMA_CPP_PYTHON
    vertex VERTEXAI VERTEX_AI GOOGLE_VERTEXAI GOOGLE
    anthropic CLAUDEAI CLAUDE_AI CLAUDE ANTHROPIC
"""
# Variables that a vendor reads for two of its services.
SHARED = {
    "GEMINI_API_KEY": {"gemini", "gemini_openai"},
    "GOOGLE_API_KEY": {"gemini", "gemini_openai"},
    "AZURE_API_KEY": {"azure", "foundry"},
}
RETIRED = {"github_models": "2026-07-30", "meta_llama": "2026-07-06", "ai21": "2026-08-09"}
LOCAL = {"ollama", "lmstudio", "vllm", "sglang", "llamacpp", "local", "openai_compatible"}


def route(name):
    return resolve(name, rows=ROWS, registry={}, provider_map={})


# -- rows ----------------------------------------------------------------------------------------------------------


def test_every_provider_of_the_facts_has_its_row():
    assert FACTS.keys() == ROWS.keys()
    # The facts count openai_compatible as another name of local.
    assert len(FACTS) == 52 + 1


def test_every_name_of_statek_resolves():
    lines = [line.split() for line in STATEK.strip().splitlines()]
    assert len(lines) == 30
    assert sum(len(names) for _, *names in lines) == 69
    for key, *names in lines:
        for name in names:
            assert route(f"{name}/some-model").provider == route(f"{name.lower()}:some-model").provider == key


def test_every_key_and_alias_is_a_prefix_in_any_case():
    for key, (aliases, _, _) in FACTS.items():
        for name in (key, *aliases.split()):
            for spelling in (name, name.upper(), name.title()):
                assert (route(f"{spelling}/A/b:c").provider, route(f"{spelling}/A/b:c").model) == (key, "A/b:c")


def test_no_provider_stands_in_two_files():
    files = sorted((ROOT / "llm_master" / "catalogue").glob("providers*.json"))
    keys = [key for file in files for key in json.loads(file.read_text(encoding="utf-8"))]
    assert sorted(keys) == sorted(ROWS)


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
    assert row.serves
    assert ("chat" in raw) <= ("openai_chat" in row.families)
    assert row.family_urls.keys() | row.family_auth.keys() <= set(row.families)
    assert row.variable_auth.keys() <= set(row.key_variables)
    assert ("messages" in raw) <= ("anthropic_messages" in row.families)
    assert row.paths.keys() <= {*row.families}
    assert all(path.startswith("/") for path in row.paths.values())
    assert set(row.error_codes.values()) <= CATEGORIES.keys()
    assert set(row.chat.finish_reasons.values()) <= {"stop", "length", "tool_calls", "content_filter", "error"}


def test_names_are_unique_and_lower_case():
    names = [name for key, row in ROWS.items() for name in (key, *row.aliases)]
    assert sorted(names) == sorted(set(names))
    assert all(name == name.lower() and not set("/: ") & set(name) for name in names)


def test_a_key_variable_belongs_to_one_provider():
    owners = {}
    for key, row in ROWS.items():
        for variable in row.key_variables:
            owners.setdefault(variable, set()).add(key)
    assert {variable: keys for variable, keys in owners.items() if len(keys) > 1} == SHARED


@pytest.mark.parametrize("key", sorted(ROWS))
def test_row_and_config_read_the_same_variables_in_the_same_order(key):
    own = f"{key.upper()}_API_KEY"
    listed = KEY_VARIABLES.get(key, ())
    assert ROWS[key].key_variables == (listed if own in listed else (*listed, own))


def test_a_retired_service_says_since_when_and_what_to_use():
    retired = {key: row for key, row in ROWS.items() if row.status != "live"}
    assert {key: row.retired_on for key, row in retired.items()} == RETIRED
    for row in retired.values():
        assert row.status == f"retired {row.retired_on}"
        assert dt.date.fromisoformat(row.retired_on).isoformat() == row.retired_on
        assert row.successor
    assert ROWS["openai"].retired_on is None


def test_what_a_row_serves():
    assert {key: row.serves for key, row in ROWS.items() if not row.chats} == {
        "voyage": ("embeddings", "rerank"),
        **dict.fromkeys(("bfl", "recraft", "replicate", "fal"), ("images",)),
    }


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


def test_a_dialect_may_be_like_that_of_another_row():
    # Models of other makers stand at Foundry too, and take more.
    foundry = msgspec.structs.replace(ROWS["foundry"].chat, drop=ROWS["openai"].chat.drop)
    assert ROWS["azure"].chat == foundry == ROWS["openai"].chat
    bedrock = msgspec.structs.replace(ROWS["bedrock"].messages, media={})  # it takes other sizes, and no addresses
    assert ROWS["foundry"].messages == bedrock == ROWS["anthropic"].messages
    assert ROWS["gemini"].chat == ROWS["vertex"].chat == ROWS["gemini_openai"].chat
    assert all("like" not in row.get(field, ()) for row in RAW.values() for field in ("chat", "messages"))
    rows = load_rows()
    rows["azure"]["chat"]["drop"] = ["seed"]
    assert rows["openai"]["chat"]["drop"] == ["top_k"]


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
        ({"serves": ["music"]}, "music"),
        ({"base_url": "https://{HOST}/v1"}, "HOST must stand both in an address, in braces, and in placeholders"),
        ({"placeholders": {"HOST": {"variables": ["X"]}}}, "HOST must stand both"),
        ({"placeholders": {"HOST": {"variable": "X"}}}, "placeholders"),
    ],
)
def test_a_wrong_row_is_refused(change, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        ProviderRow.parse("openai", {**RAW["openai"], **change})


# -- what a row says of one model ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "reasons", "efforts", "tools_effort"),
    [
        ("openai", "gpt-4o-mini", False, "", None),
        ("openai", "ft:gpt-4o:acme:foo1", False, "", None),
        ("openai", "gpt-99", True, "low medium high xhigh", None),
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
        ("azure", "gpt-5.6-sol", True, "none low medium high xhigh", "none"),
        ("azure", "my-deployment", False, None, None),
        ("moonshot", "kimi-k3.1-pro", True, "low high max", None),
        ("moonshot", "kimi-k2.6", True, "", None),
        ("moonshot", "moonshot-v1-8k", False, None, None),
        ("zai", "glm-5.3", True, "low high max", None),
        ("zai", "glm-4.7", False, "", None),
        ("meta", "muse-spark-1.1", True, "minimal low medium high xhigh", None),
        ("cerebras", "gpt-oss-120b", True, "low medium high", None),
        ("cerebras", "zai-glm-5.3", True, "low high max", None),
        ("gemini", "gemini-2.5-flash", False, "none minimal low medium high", None),
        ("gemini", "gemini-2.5-pro", True, "minimal low medium high", None),
        ("gemini", "gemini-2.0-flash", False, "", None),
        ("vertex", "google/gemini-3-pro-preview", True, "low high", None),
        ("gemini_openai", "gemini-4-argon", True, "low medium high", None),
        ("cohere", "command-a-reasoning", False, "none high", None),
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
    assert chat.for_model("o3").drop == {"stop", "top_k"}
    assert chat.for_model("o1").drop == {"top_k"}
    assert chat.for_model("gpt-5.1").drop_reasoning == SAMPLING
    assert chat.for_model("gpt-5.4").drop_reasoning == SAMPLING | {"tools"}
    assert ROWS["deepseek"].chat.for_model("deepseek-v4-pro").drop_reasoning == {"forced_tools"}


def test_for_model_changes_only_what_it_names():
    chat = ROWS["openai"].chat
    special = chat.for_model("gpt-5.6-sol")
    assert special.rename == chat.rename == {"max_tokens": "max_completion_tokens"}
    assert special.developer_role
    assert special.per_model == {}
    assert chat.for_model("davinci-99") is chat


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
    assert {"user", "logit_bias", "store", "stream_options"} <= chat["mistral"].drop
    assert not {"logprobs", "top_logprobs", "metadata"} & chat["mistral"].drop, "mistralai 3.7.0 sends them"
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
    without_strict = {
        *("deepseek", "xai", "ollama", "lmstudio", "llamacpp", "local", "openai_compatible"),
        *("cohere", "moonshot", "cerebras", "sambanova", "nvidia", "databricks"),
    }
    assert {key for key, dialect in chat.items() if not dialect.strict_tools} == without_strict
    assert {key for key, dialect in chat.items() if dialect.developer_role} == {"openai", "azure", "foundry"}
    assert {"presence_penalty", "frequency_penalty", "logit_bias"} <= chat["cerebras"].drop & chat["minimax"].drop
    assert {"n", "user", "parallel_tool_calls", "logit_bias"} <= chat["cohere"].drop
    assert {key for key in chat if "forced_tools" in chat[key].drop} == {"ollama", "moonshot", "meta", "deepinfra"}
    assert chat["minimax"].clamp == {"temperature": (0.01, 1), "n": (1, 1)}
    assert chat["zai"].inline_defs
    assert chat["moonshot"].replay_reasoning == chat["zai"].replay_reasoning == "reasoning_content"
    assert chat["deepinfra"].cost_path == "usage.estimated_cost"
    assert ROWS["zai"].error_codes["1113"] == ROWS["zai"].error_codes["1321"] == "quota"
    assert ROWS["zai"].error_codes["1305"] == "overloaded"
    assert ROWS["cohere"].error_codes == {"498": "auth", "499": "server"}
    assert ROWS["cloudflare"].error_codes["3036"] == "quota"
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
