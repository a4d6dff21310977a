"""
Replicate: predictions of any model, ``owner/name`` or ``owner/name:version``.
"""

from __future__ import annotations

from llm_master.providers.polling import PollingProvider

__all__ = ["Replicate"]


class Replicate(PollingProvider):
    """
    A model at api.replicate.com.

    What it draws is deleted after an hour. Parameters are the model's own and go into ``input``; ``version``,
    ``webhook`` and ``webhook_events_filter`` stand beside it. Source: replicate.com/docs/reference/http and
    topics/predictions/lifecycle, read 2026-11-21.
    """

    __slots__ = ()
