"""
An image that a model made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import os
    from pathlib import Path

__all__ = ["Image", "saving"]


class Image(msgspec.Struct):
    """
    One generated image: an address, its bytes, or both.

    ``revised_prompt`` is what the provider made of the prompt, where it says so; ``trusted`` means that the address is
    on the provider's own host, as the user set it.
    """

    url: str | None = None
    data: bytes | None = None
    mime_type: str | None = None
    revised_prompt: str | None = None
    trusted: bool = False

    def save(self, folder: str | os.PathLike[str], **options: Any) -> Path:
        """Write the image into a folder; as ``LLMResponse.save`` for one image."""
        return saving().save([self], folder, **options)[0]  # type: ignore[no-any-return]  # loaded late


def saving() -> Any:
    """The module that writes images into folders."""
    # What writes files and opens sockets stands far above the nouns; it is loaded when an image is saved.
    import importlib

    return importlib.import_module("llm_master.saving")
