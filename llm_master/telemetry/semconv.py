"""
Every name of the OpenTelemetry conventions for generative AI that is used here, and ours beside them.

The names are those of the conventions at schema version 1.42.0 (status: development), checked 2026-11-21:
https://github.com/open-telemetry/semantic-conventions-genai and, where the same names stand in a package,
``opentelemetry-semantic-conventions`` 0.66b2. What is not released there yet (the counters that shall replace
``gen_ai.client.token.usage``) is not used.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/1.42.0"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # a word of language models
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

# Stable names of the general conventions: https://opentelemetry.io/docs/specs/semconv/registry/attributes/
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_STATUS_CODE: Final = "http.response.status_code"

OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  # as above
TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"

#: Bounds of the histograms, in seconds and in tokens, as the conventions ask for them.
SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = tuple(4**power for power in range(14))

#: Operation by the kind of a call; another kind stands for itself.
OPERATIONS: Final = {"chat": "chat", "embed": "embeddings", "image": "generate_content"}
#: What a kind of call is asked to give, where it is not plain text.
OUTPUTS: Final = {"speak": "speech", "image": "image"}

#: The conventions' name of a provider by its key, where it is another one. ``moonshot_ai`` is newer than the package.
PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_openai": "aws.bedrock",
    "foundry": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "gemini_openai": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}

#: Attribute by the parameter of a request that it shows, and the type of its value.
PARAMETERS: Final[dict[str, tuple[str, type]]] = {
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "seed": ("gen_ai.request.seed", int),
    "n": (REQUEST_CHOICE_COUNT, int),
    "dimensions": (EMBEDDINGS_DIMENSION_COUNT, int),
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
}

# What the conventions have no name for.
CALL_OUTCOME: Final = "llm_master.outcome"
CALL_MODEL: Final = "llm_master.model"
CALL_ATTEMPTS: Final = "llm_master.attempts"
CALL_CACHED: Final = "llm_master.cached"
CALL_COST: Final = "llm_master.cost"
CALL_TAGS: Final = "llm_master.tags"
CALL_ID: Final = "llm_master.call_id"
ATTEMPT_NUMBER: Final = "llm_master.attempt.number"
ATTEMPT_WAITED: Final = "llm_master.attempt.waited"
ATTEMPT_WAIT_REASON: Final = "llm_master.attempt.wait_reason"
ATTEMPT_DEPLOYMENT: Final = "llm_master.attempt.deployment"
ATTEMPT_INPUT_TOKENS: Final = "llm_master.attempt.input_tokens"
ATTEMPT_OUTPUT_TOKENS: Final = "llm_master.attempt.output_tokens"
ATTEMPT_ESTIMATED: Final = "llm_master.attempt.usage_estimated"
ATTEMPT_BYTES_SENT: Final = "llm_master.attempt.bytes_sent"
ATTEMPT_BYTES_RECEIVED: Final = "llm_master.attempt.bytes_received"
EVENT_WAIT: Final = "llm_master.wait"
EVENT_TARGET: Final = "llm_master.target"
REQUEST_ID: Final = "llm_master.request_id"
