"""
Black Forest Labs: FLUX, a job for each image.
"""

from __future__ import annotations

from llm_master.providers.polling import PollingProvider

__all__ = ["BFL"]


class BFL(PollingProvider):
    """
    A FLUX model at api.bfl.ai.

    Its jobs are asked after at the ``polling_url`` of the answer, whose host varies within bfl.ai; the address of the
    image is good for ten minutes. A job cannot be cancelled. Source: docs.bfl.ai/quick_start/generating_images, read
    2026-11-21.
    """

    __slots__ = ()
