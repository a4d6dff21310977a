"""
fal: a queue before every model, ``owner/app`` and what the app calls its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llm_master.bodies import UNREADABLE
from llm_master.classify import error_from_object
from llm_master.providers.polling import PollingProvider

if TYPE_CHECKING:
    from llm_master.endpoint import Endpoint
    from llm_master.errors import ProviderError
    from llm_master.wire.polling import Status

__all__ = ["Fal"]


class Fal(PollingProvider):
    """
    A model at queue.fal.run.

    A job that is ``COMPLETED`` may have failed: its status then holds ``error``, or the result is an HTTP error whose
    ``detail`` is a list of typed errors. Source: fal.ai/docs/model-apis/model-endpoints/queue and
    fal.ai/docs/model-apis/errors, read 2026-11-21.
    """

    __slots__ = ()

    def failure(self, status: Status, answer: dict[str, Any]) -> ProviderError:
        """The error that the status holds, typed by its own type."""
        if status.state != "failed":
            return super().failure(status, answer)
        body = {"error": {"message": status.detail, "type": answer.get("error_type")}}
        return self._typed(500, body, {}, self.secrets)

    def refused(self, status: int, body: bytes, headers: Any, endpoint: Endpoint) -> ProviderError:
        """The typed error of a refused request: the first of its ``detail`` names the type."""
        try:
            detail = msgspec.json.decode(body, type=dict[str, Any]).get("detail")
        except UNREADABLE:
            detail = None
        first = detail[0] if isinstance(detail, list) and detail and isinstance(detail[0], dict) else None
        if first is None:
            return super().refused(status, body, headers, endpoint)
        texts = [str(each.get("msg")) for each in detail or () if isinstance(each, dict)]
        return self._typed(
            status, {"error": {"message": "; ".join(texts), "type": first.get("type")}}, headers, endpoint.secrets
        )

    def _typed(self, status: int, body: Any, headers: Any, secrets: tuple[str, ...]) -> ProviderError:
        return error_from_object(
            body,
            provider=self.provider,
            model=self.model,
            status=status,
            headers=headers,
            rules=self.row.error_codes,
            secrets=secrets,
        )
