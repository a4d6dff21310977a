"""
Secrets: a string that never shows itself, and text cleaned of anything shaped like a credential.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

__all__ = ["MASK", "REDACTED", "Secret", "key_id", "redact", "shown"]

MASK = "***"
REDACTED = "[REDACTED]"

# Vendor key shapes, then "name: value" forms. A value must be long or follow an explicit credential name, so that
# prose such as "token count: 12" stays as it is. Every repeat is bounded or starts only where no other could have
# started, so that the time grows with the text and not with its square.
_SHAPES = r"""(?x)
    \b(?:sk|rk|pk)-[A-Za-z0-9_\-*]{6,}            # OpenAI, Anthropic, OpenRouter, DeepSeek; also as "sk-ab***yz"
    | \b(?:gsk|hf|r8|tgp|ghp|gho|ghs|github_pat|fw)_(?=[A-Za-z0-9_\-]{0,24}[0-9A-Z])[A-Za-z0-9_\-]{6,}
    | \b(?:gsk|hf)_[A-Za-z0-9]{6,}
    | \b(?:xai|nvapi|csk|pplx|key|fal|fw)-(?=[A-Za-z0-9_\-]{0,24}[0-9A-Z])[A-Za-z0-9_\-]{12,}
    | \bpplx-[A-Za-z0-9]{6,}
    | \bAIza[A-Za-z0-9_\-]{10,}                  # Google
    | \bxox[a-z]-[A-Za-z0-9\-]{6,}               # Slack
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}               # AWS access key id
    | (?<![A-Za-z0-9_\-.])eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*   # JWT
    """
_NAMED = r"""(?ix)
    (?P<head>
        \b(?:bearer|basic)\s{1,8}
      | (?<![a-z])(?:x-api-key|x-goog-api-key|api[_-]?key|x-key|access[_-]?token|auth[_-]?token|refresh[_-]?token
            |client[_-]?secret|secret[_-]?key|aws_secret_access_key|password|authorization)["']?\s{0,8}[:=]\s{0,8}["']?
            (?:bearer\s{1,8}|basic\s{1,8}|key\s{1,8})?
      | \b(?:token|key|secret|sig|signature)=["']?
      | ["'](?:token|secret)["']\s{0,8}:\s{0,8}["']
    )
    (?P<value>\[REDACTED\]|[A-Za-z0-9_\-./+=~%]{4,})
    """
_USERINFO = r"(?i)(?P<head>\b[a-z][a-z0-9+.\-]{0,20}://)[^/\s?#]*@"


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    # Compiled at the first error: that takes longer than importing all of this module.
    return re.compile(_SHAPES), re.compile(_NAMED), re.compile(_USERINFO)


# What follows "bearer" in prose; anything else there is taken for a token.
_BEARER_PROSE = frozenset(
    {
        *("auth", "authentication", "authorization", "credential", "credentials", "format", "header", "headers"),
        *("key", "keys", "must", "realm", "scheme", "security", "token", "tokens", "type", "value", "and", "with"),
    }
)


def _keep_head(match: re.Match[str]) -> str:
    head, value = match["head"], match["value"]
    words = value.rstrip(".-/").replace("/", "-").split("-")
    if (scheme := head.strip().lower()) == "bearer":
        prose = all(word.lower() in _BEARER_PROSE for word in words)
    else:
        # "basic English" is prose; credentials after basic are base64, hardly ever a short word of small letters.
        prose = scheme == "basic" and all(
            word.isalpha() and len(word) <= 15 and (word.islower() or word.istitle()) for word in words
        )
    return match[0] if prose else head + REDACTED


def redact(text: str, *secrets: str | None) -> str:
    """
    Replace credential-shaped parts of a text by ``[REDACTED]``.

    Args:
        text: any text, typically a provider's error message.
        secrets: the caller's own keys; replaced wherever they stand, whatever their shape.
    """
    # The longest first: one key may be the beginning of another.
    for secret in sorted((each for each in secrets if each and len(each) >= 4), key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    shapes, named, userinfo = _patterns()
    text = shapes.sub(REDACTED, text)
    text = named.sub(_keep_head, text)
    return userinfo.sub(lambda m: f"{m['head']}{REDACTED}@", text)


def shown(value: object, limit: int = 60) -> str:
    """
    A value as an error may quote it: its repr, cut after ``limit`` characters and named by its type then.
    """
    # Cut before the repr is made: a data URI may have megabytes.
    try:
        text = repr(value[: limit + 1] if isinstance(value, (str, bytes)) and not isinstance(value, Secret) else value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= limit + 2 else f"{text[:limit]}... ({type(value).__name__})"


def key_id(key: str | None) -> str | None:
    """A public name of a key: the first 8 hex digits of its SHA-256, which tell keys apart and nothing more."""
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else None


class Secret(str):
    """
    A string whose repr is ``***``, so that logs, tracebacks with locals and containers never show it.

    It is a real string otherwise: ``f"Bearer {secret}"`` and a header dict work. A pickle holds no value: unpickling
    gives an empty secret, so that a key never travels by accident.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"

    # A copy in the same process keeps the value; copy would go through __reduce__ otherwise and lose it.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Secret, ("",))
