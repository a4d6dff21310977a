"""
The environment variables in which a provider's key may stand.
"""

from __future__ import annotations

__all__ = ["ALIAS_VARIABLES", "FOREIGN_VARIABLES", "KEY_VARIABLES", "key_variable"]

#: Environment variables of a provider's key where there are more than ``<PROVIDER>_API_KEY``; the first that is set
#: wins, ``<PROVIDER>_API_KEY`` itself is tried last unless it is listed. From the vendors' documentation, 2026-11-21.
KEY_VARIABLES: dict[str, tuple[str, ...]] = {
    "together": ("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY"),
    "fireworks": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    "perplexity": ("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY", "PPLX_API_KEY"),
    "nvidia": ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "moonshot": ("MOONSHOT_API_KEY", "MOONSHOTAI_API_KEY", "KIMI_API_KEY"),
    "dashscope": ("DASHSCOPE_API_KEY", "ALIBABA_API_KEY", "QWEN_API_KEY"),
    "cloudflare": ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
    "cloudflare_gateway": ("CLOUDFLARE_AI_GATEWAY_API_KEY", "CF_AIG_TOKEN"),
    "github_models": ("GITHUB_TOKEN", "GITHUB_API_KEY"),
    "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "foundry": ("AZURE_AI_API_KEY", "AZURE_FOUNDRY_API_KEY", "AZURE_API_KEY"),
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY", "AZURE_OPENAI_AD_TOKEN"),
    "gemini_openai": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "lmstudio": ("LM_STUDIO_API_KEY",),
    "llamacpp": ("LLAMA_CPP_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY", "HUGGING_FACE_HUB_TOKEN"),
    "deepinfra": ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    "zai": ("ZAI_API_KEY", "ZHIPU_API_KEY", "ZHIPUAI_API_KEY"),
    "meta": ("MODEL_API_KEY", "META_API_KEY"),
    "meta_llama": ("LLAMA_API_KEY",),
    "vercel": ("AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY"),
    "databricks": ("DATABRICKS_TOKEN",),
    "scaleway": ("SCW_SECRET_KEY",),
    "ovhcloud": ("OVHCLOUD_API_KEY", "OVH_AI_ENDPOINTS_ACCESS_TOKEN"),
    "vertex": ("VERTEX_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN"),
    "recraft": ("RECRAFT_API_TOKEN", "RECRAFT_API_KEY"),
    "replicate": ("REPLICATE_API_TOKEN",),
    "fal": ("FAL_KEY", "FAL_API_KEY"),
}

#: Provider -> ``<ALIAS>_API_KEY`` of its other names, as STATEK reads them; tried after all of the above.
ALIAS_VARIABLES: dict[str, tuple[str, ...]] = {
    "openai": ("OPEN_AI_API_KEY",),
    "anthropic": ("CLAUDE_API_KEY", "CLAUDEAI_API_KEY", "CLAUDE_AI_API_KEY"),
    "openrouter": ("OPEN_ROUTER_API_KEY",),
    "mistral": ("MISTRALAI_API_KEY", "MISTRAL_AI_API_KEY"),
    "deepseek": ("DEEP_SEEK_API_KEY",),
    "xai": ("X_AI_API_KEY", "GROK_API_KEY", "SPACEXAI_API_KEY"),
    "fireworks": ("FIREWORKSAI_API_KEY",),
    "vllm": ("HOSTED_VLLM_API_KEY",),
    "llamacpp": ("LLAMA_CPP_PYTHON_API_KEY", "LLAMAFILE_API_KEY"),
    "moonshot": ("MOONSHOT_AI_API_KEY",),
    "dashscope": ("DASH_SCOPE_API_KEY", "ALIBABA_CLOUD_API_KEY", "MODEL_STUDIO_API_KEY"),
    "zai": ("Z_AI_API_KEY", "BIGMODEL_API_KEY", "GLM_API_KEY"),
    "minimax": ("MINI_MAX_API_KEY",),
    "meta": ("META_AI_API_KEY", "MUSE_API_KEY"),
    "meta_llama": ("LLAMA_API_API_KEY",),
    "voyage": ("VOYAGEAI_API_KEY",),
    "sambanova": ("SAMBA_NOVA_API_KEY",),
    "nvidia": ("NIM_API_KEY",),
    "nebius": ("NEBIUS_TOKEN_FACTORY_API_KEY",),
    "huggingface": ("HF_API_KEY", "HF_ROUTER_API_KEY"),
    "deepinfra": ("DEEP_INFRA_API_KEY",),
    "novita": ("NOVITA_AI_API_KEY",),
    "wandb": ("WEIGHTS_BIASES_API_KEY",),
    "ovhcloud": ("OVH_API_KEY",),
    "azure": ("AZURE_OPEN_AI_API_KEY",),
    "foundry": ("MICROSOFT_FOUNDRY_API_KEY", "MS_FOUNDRY_API_KEY"),
    "bedrock": ("AMAZON_BEDROCK_API_KEY", "AWS_BEDROCK_API_KEY"),
    "vertex": ("VERTEXAI_API_KEY", "VERTEX_AI_API_KEY", "GOOGLE_VERTEXAI_API_KEY"),
    "gemini": ("GOOGLEAI_API_KEY", "GOOGLE_AI_API_KEY", "GOOGLE_GENAI_API_KEY"),
    "gemini_openai": ("GEMINI_ENTERPRISE_API_KEY", "GOOGLE_GEMINI_ENTERPRISE_API_KEY", "GOOGLE_OPENAI_API_KEY"),
    "cloudflare": ("CLOUDFLARE_WORKERS_AI_API_KEY", "WORKERS_AI_API_KEY"),
    "bfl": ("BLACK_FOREST_LABS_API_KEY", "FLUX_API_KEY"),
    "fal": ("FAL_AI_API_KEY",),
}

#: Provider -> variables that its aliases would make and that are not read for it, with the reason. From the vendors'
#: documentation, 2026-11-21.
FOREIGN_VARIABLES: dict[str, dict[str, str]] = {
    "cloudflare_gateway": {"AI_GATEWAY_API_KEY": "the key of Vercel's gateway, https://vercel.com/docs/ai-gateway"},
    "vertex": {
        "GOOGLE_API_KEY": "a key of the Gemini API, https://ai.google.dev/gemini-api/docs/api-key; Vertex AI would get"
        " it as an access token"
    },
    "bedrock": {
        "AWS_API_KEY": "Amazon documents no such variable, programs keep keys of other services there, and it would"
        " take the place of the credentials that sign requests"
    },
}


def key_variable(name: str) -> str:
    """The variable of a provider's or alias' own name: ``CLOUDFLARE_AI_GATEWAY_API_KEY``."""
    return f"{''.join(char if char.isalnum() else '_' for char in name.upper())}_API_KEY"
