"""
OAuth tokens for Google's addresses where no key is given; ``google-auth`` does the work and is an optional extra.

It finds credentials where every Google program does: GOOGLE_APPLICATION_CREDENTIALS, a login of ``gcloud``, the
instance's own service. A token lasts about an hour and is renewed before it ends.
Source: https://docs.cloud.google.com/docs/authentication/application-default-credentials, state 2026-11-21.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llm_master.errors import ConfigurationError, MissingKeyError
from llm_master.redaction import MASK

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["GoogleToken", "from_config"]

_INSTALL = "pip install 'llm-master[vertex]'"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def from_config(row: ProviderRow, family: str, url: str, config: LLMConfig) -> GoogleToken | None:  # noqa: ARG001  # as every signer's
    """The signer of a row's requests, None where ``google-auth`` is not installed."""
    try:
        importlib.import_module("google.auth")
    except ImportError:
        return None
    return GoogleToken()


class GoogleToken:
    """
    Signs with a token of Google's application default credentials; safe in several threads.

    Args:
        credentials: of ``google-auth``; None looks for the default ones on first use.
    """

    def __init__(self, credentials: Any = None) -> None:
        self._credentials = credentials
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "GoogleToken()"

    @property
    def fresh(self) -> bool:
        """Whether ``sign`` needs to wait for nothing."""
        return self._credentials is not None and bool(self._credentials.valid)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be masked wherever a server echoes it; empty until there is a token."""
        token = self._credentials.token if self._credentials is not None else None
        return (token,) if token else ()

    def refresh(self) -> None:
        """
        Get a token that is good for a while; may block, so not on an event loop's thread.

        Raises:
            MissingKeyError: there are no credentials.
            ConfigurationError: they give no token.
        """
        try:
            auth = importlib.import_module("google.auth")
            errors = importlib.import_module("google.auth.exceptions")
            transport = importlib.import_module("google.auth.transport.requests")
        except ImportError as error:
            raise ConfigurationError(
                f"a token for Google needs google-auth, which is not installed: {_INSTALL}; or give VERTEX_ACCESS_TOKEN"
            ) from error
        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials, _project = auth.default(scopes=[_SCOPE])
                if not self._credentials.valid:
                    self._credentials.refresh(transport.Request())
            except errors.DefaultCredentialsError as error:
                raise MissingKeyError(
                    "no Google credentials: set VERTEX_ACCESS_TOKEN or GOOGLE_APPLICATION_CREDENTIALS, or run"
                    " `gcloud auth application-default login`"
                ) from error
            except errors.GoogleAuthError as error:
                raise ConfigurationError(
                    f"Google gives no token: {type(error).__name__}; log in again"
                    " (gcloud auth application-default login), or set VERTEX_ACCESS_TOKEN"
                ) from error

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:  # noqa: ARG002  # a token signs nothing of these
        """The header with the token; raises as ``refresh``, which is called first unless ``fresh``."""
        if not self.fresh:
            self.refresh()
        found = {"Authorization": f"Bearer {self._credentials.token}"}
        project = getattr(self._credentials, "quota_project_id", None)
        return found | {"x-goog-user-project": str(project)} if project else found

    def shown(self, url: str, body: bytes) -> tuple[dict[str, str], str | None]:  # noqa: ARG002  # as every signer's
        """The headers that ``sign`` would add, the token masked, and what is missing; no network."""
        found = {"Authorization": f"Bearer {MASK}"}
        project = getattr(self._credentials, "quota_project_id", None)
        if project:
            found["x-goog-user-project"] = str(project)
        if self.fresh:
            return found, None
        return found, (
            "VERTEX_ACCESS_TOKEN is not set: a token is asked of Google when it is sent, by the application default"
            " credentials (GOOGLE_APPLICATION_CREDENTIALS, a login of gcloud, this machine's own service)"
        )
