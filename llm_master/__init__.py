"""
LLM Master: one async call for any language model.

The public names are loaded when they are first used, so that importing the package costs next to nothing. Everything
that is not listed in ``__all__`` may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_master.answers import (
        EmbeddingResponse,
        ModerationResponse,
        ModerationResult,
        RankedDocument,
        RerankResponse,
        SpeechResponse,
        TokenCount,
        TranscriptionResponse,
        TranscriptSegment,
        TranscriptWord,
    )
    from llm_master.base_provider import AnthropicProvider, BFLProvider, OpenAIProvider, UnifiedProvider, add_provider
    from llm_master.capabilities import Capabilities
    from llm_master.classes import (
        Attempt,
        BaseLLMProvider,
        Image,
        LLMResponse,
        ModelConfig,
        ModelRegistry,
        ToolCall,
        Usage,
    )
    from llm_master.config import LLMConfig
    from llm_master.cost import Cost
    from llm_master.errors import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BudgetExceededError,
        ConfigurationError,
        ContentModerationError,
        ContentPolicyError,
        ContextWindowError,
        DeadlineExceededError,
        InvalidRequestError,
        LedgerError,
        LLMError,
        MissingKeyError,
        ModelNotFoundError,
        NotFoundError,
        OverloadedError,
        PermissionDeniedError,
        ProviderError,
        QuotaExceededError,
        RateLimitError,
        ResponseError,
        ResponseTooLargeError,
        ServerError,
        StreamInterrupted,
        StructuredOutputError,
        ToolArgumentsError,
        ToolLoopError,
        UnsupportedParameterError,
    )
    from llm_master.events import (
        CallEvent,
        DiscardEvent,
        EndEvent,
        FallbackEvent,
        ImageEvent,
        ReasoningEvent,
        RefusalEvent,
        RetryEvent,
        StreamEvent,
        TextEvent,
        ToolCallDeltaEvent,
        ToolCallEvent,
        UsageEvent,
    )
    from llm_master.explanation import Explanation
    from llm_master.fetch_rules import FetchError, FetchPolicy
    from llm_master.ledger.store import Ledger
    from llm_master.metering import (
        LLM_Usage,
        ModelPricing,
        PriceReport,
        get_model_pricing,
        init_model_pricing,
        set_model_pricing,
    )
    from llm_master.pieces import OperationStream
    from llm_master.policy.breaker import BreakerPolicy
    from llm_master.policy.deadline import Timeouts
    from llm_master.policy.hedge import HedgePolicy
    from llm_master.policy.limits_budget import Budget
    from llm_master.policy.limits_rules import Limit
    from llm_master.policy.retry import RetryPolicy
    from llm_master.pricing import cost_of
    from llm_master.response_synthesizer import QueryLLM
    from llm_master.settings_parts import CacheSettings, Deployment
    from llm_master.stream import LLMStream
    from llm_master.tools import ToolResult, ToolRun
    from llm_master.tracking import Job

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AnthropicProvider",
    "Attempt",
    "AuthenticationError",
    "BFLProvider",
    "BadRequestError",
    "BaseLLMProvider",
    "BreakerPolicy",
    "Budget",
    "BudgetExceededError",
    "CacheSettings",
    "CallEvent",
    "Capabilities",
    "ConfigurationError",
    "ContentModerationError",
    "ContentPolicyError",
    "ContextWindowError",
    "Cost",
    "DeadlineExceededError",
    "Deployment",
    "DiscardEvent",
    "EmbeddingResponse",
    "EndEvent",
    "Explanation",
    "FallbackEvent",
    "FetchError",
    "FetchPolicy",
    "HedgePolicy",
    "Image",
    "ImageEvent",
    "InvalidRequestError",
    "Job",
    "LLMConfig",
    "LLMError",
    "LLMResponse",
    "LLMStream",
    "LLM_Usage",
    "Ledger",
    "LedgerError",
    "Limit",
    "MissingKeyError",
    "ModelConfig",
    "ModelNotFoundError",
    "ModelPricing",
    "ModelRegistry",
    "ModerationResponse",
    "ModerationResult",
    "NotFoundError",
    "OpenAIProvider",
    "OperationStream",
    "OverloadedError",
    "PermissionDeniedError",
    "PriceReport",
    "ProviderError",
    "QueryLLM",
    "QuotaExceededError",
    "RankedDocument",
    "RateLimitError",
    "ReasoningEvent",
    "RefusalEvent",
    "RerankResponse",
    "ResponseError",
    "ResponseTooLargeError",
    "RetryEvent",
    "RetryPolicy",
    "ServerError",
    "SpeechResponse",
    "StreamEvent",
    "StreamInterrupted",
    "StructuredOutputError",
    "TextEvent",
    "Timeouts",
    "TokenCount",
    "ToolArgumentsError",
    "ToolCall",
    "ToolCallDeltaEvent",
    "ToolCallEvent",
    "ToolLoopError",
    "ToolResult",
    "ToolRun",
    "TranscriptSegment",
    "TranscriptWord",
    "TranscriptionResponse",
    "UnifiedProvider",
    "UnsupportedParameterError",
    "Usage",
    "UsageEvent",
    "__version__",
    "add_provider",
    "cost_of",
    "get_model_pricing",
    "init_model_pricing",
    "set_model_pricing",
]

__version__ = "0.1.0"

_HOMES = {
    name: f"llm_master.{module}"
    for module, names in (
        (
            "answers",
            (
                "EmbeddingResponse ModerationResponse ModerationResult RankedDocument RerankResponse SpeechResponse "
                "TokenCount TranscriptSegment TranscriptWord TranscriptionResponse"
            ),
        ),
        ("base_provider", "AnthropicProvider BFLProvider OpenAIProvider UnifiedProvider add_provider"),
        ("capabilities", "Capabilities"),
        ("classes", "Attempt BaseLLMProvider Image LLMResponse ModelConfig ModelRegistry ToolCall Usage"),
        ("config", "LLMConfig"),
        ("cost", "Cost"),
        (
            "errors",
            (
                "APIConnectionError APITimeoutError AuthenticationError BadRequestError "
                "BudgetExceededError ConfigurationError ContentModerationError ContentPolicyError ContextWindowError "
                "DeadlineExceededError "
                "InvalidRequestError LLMError LedgerError MissingKeyError ModelNotFoundError NotFoundError "
                "OverloadedError "
                "PermissionDeniedError ProviderError QuotaExceededError RateLimitError ResponseError "
                "ResponseTooLargeError ServerError StreamInterrupted StructuredOutputError ToolArgumentsError "
                "ToolLoopError UnsupportedParameterError"
            ),
        ),
        (
            "events",
            (
                "CallEvent DiscardEvent EndEvent FallbackEvent ImageEvent ReasoningEvent RefusalEvent RetryEvent "
                "StreamEvent TextEvent ToolCallDeltaEvent ToolCallEvent UsageEvent"
            ),
        ),
        ("explanation", "Explanation"),
        ("fetch_rules", "FetchError FetchPolicy"),
        ("ledger.store", "Ledger"),
        ("pieces", "OperationStream"),
        (
            "metering",
            "LLM_Usage ModelPricing PriceReport get_model_pricing init_model_pricing set_model_pricing",
        ),
        ("policy.breaker", "BreakerPolicy"),
        ("policy.deadline", "Timeouts"),
        ("policy.hedge", "HedgePolicy"),
        ("policy.limits_budget", "Budget"),
        ("policy.limits_rules", "Limit"),
        ("policy.retry", "RetryPolicy"),
        ("pricing", "cost_of"),
        ("response_synthesizer", "QueryLLM"),
        ("settings_parts", "CacheSettings Deployment"),
        ("stream", "LLMStream"),
        ("tools", "ToolResult ToolRun"),
        ("tracking", "Job"),
    )
    for name in names.split()
}


if not TYPE_CHECKING:  # a checker that saw this function would accept any name

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
