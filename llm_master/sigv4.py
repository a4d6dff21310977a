"""
AWS Signature Version 4 for requests that carry no bearer key; ``botocore`` does the work and is an optional extra.

A signature covers method, address, body and time, so that each request needs its own, made when its body is final and
again for each retry. Whoever sends does, before each request::

    if not signer.fresh:
        await asyncio.to_thread(signer.refresh)     # files, a login, the instance's own service: it may wait
    headers = {**headers, **signer.sign("POST", url, {"Content-Type": "application/json"}, body)}

and sends ``url`` and ``body`` byte for byte as they were signed. Headers that are not given to ``sign`` are not covered
and may be added afterwards.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from llm_master.errors import ConfigurationError, MissingKeyError
from llm_master.redaction import MASK

if TYPE_CHECKING:
    from llm_master.config import LLMConfig
    from llm_master.rows import ProviderRow

__all__ = ["SigV4Signer", "Signer", "from_config", "region_of"]

_INSTALL = "pip install 'llm-master[bedrock]'"
# What botocore calls the places that are on this machine.
_NEAR = ("env", "shared-credentials-file", "config-file")
_REGION = re.compile(r"(?:^|\.)bedrock(?:-[a-z]+)*\.([a-z]{2,}(?:-[a-z]+)+-\d+)\.")


class Signer(Protocol):
    """What signs requests."""

    @property
    def fresh(self) -> bool:
        """Whether ``sign`` needs to wait for nothing."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be masked wherever a server echoes it."""

    def refresh(self) -> None:
        """Get credentials that are good for a while; may block, so not on an event loop's thread."""

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers that sign a request."""

    def shown(self, url: str, body: bytes) -> tuple[dict[str, str], str | None]:
        """The headers that ``sign`` would add to a POST, with no secret in them, and what is missing; no network."""


def region_of(url: str) -> str | None:
    """The region in an address of Bedrock: us-east-1 in https://bedrock-runtime.us-east-1.amazonaws.com, else None."""
    found = _REGION.search((urlsplit(url).hostname or "") + ".")
    return found[1] if found else None


def from_config(row: ProviderRow, family: str, url: str, config: LLMConfig) -> SigV4Signer | None:
    """
    The signer of a row's requests, by AWS_ACCESS_KEY_ID and its fellows or whatever ``botocore`` finds on first use.

    Args:
        url: where they go; an address of the user's own need not name the region.

    Returns:
        None where ``botocore`` is not installed and no AWS key is given.

    Raises:
        ConfigurationError: as ``SigV4Signer``.
    """
    access, secret, token = (
        config.key_for("", (name,)) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    )
    if access is None and secret is None:
        try:
            importlib.import_module("botocore")
        except ImportError:
            return None
    found = config.variable_for(("AWS_REGION", "AWS_DEFAULT_REGION"))
    host = urlsplit(row.family_urls.get(family, row.base_url) or "").hostname or ""
    profile = config.variable_for(("AWS_PROFILE",))
    return SigV4Signer(
        region_of(url) or (f"{found[1]}" if found else ""),
        access_key=access,
        secret_key=secret,
        session_token=token,
        profile=f"{profile[1]}" if profile else None,
        service="bedrock-mantle" if host.startswith("bedrock-mantle.") else "bedrock",
    )


class SigV4Signer:
    """
    Signs with AWS credentials; safe in several threads.

    Args:
        region: as in the address, see ``region_of``.
        access_key, secret_key, session_token: credentials; without them ``botocore`` looks where every AWS program
            looks: the environment, shared files, a login, the container, the instance.
        profile: the profile of the shared files, None for AWS_PROFILE or the default one.
        service: the name that signatures are made for.

    Raises:
        ConfigurationError: the extra is not installed, or half of a credential is given.
    """

    def __init__(
        self,
        region: str,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        service: str = "bedrock",
    ) -> None:
        if not region:
            raise ConfigurationError("a request to AWS is signed for a region; set AWS_REGION, such as us-east-1")
        if (access_key is None) != (secret_key is None):
            missing = "AWS_SECRET_ACCESS_KEY" if secret_key is None else "AWS_ACCESS_KEY_ID"
            raise ConfigurationError(f"half of an AWS credential is given; set {missing} too")
        self._region = region
        self._service = service
        self._profile = profile
        self._auth = _module("botocore.auth")
        self._request = _module("botocore.awsrequest")
        self._lock = threading.Lock()
        self._credentials: Any = None
        if access_key is not None:
            self._credentials = _module("botocore.credentials").Credentials(access_key, secret_key, session_token)

    def __repr__(self) -> str:
        return f"SigV4Signer({self._region!r}, service={self._service!r})"

    @property
    def fresh(self) -> bool:
        """Whether ``sign`` needs to wait for nothing."""
        credentials = self._credentials
        if credentials is None:
            return False
        stale = getattr(credentials, "refresh_needed", None)
        return stale is None or not stale()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be masked wherever a server echoes it; empty until there are credentials."""
        credentials = self._credentials
        if credentials is None or not self.fresh:
            return ()
        frozen = credentials.get_frozen_credentials()
        return tuple(each for each in (frozen.secret_key, frozen.token) if each)

    @property
    def access_key(self) -> str | None:
        """The public half of the credentials, None until there are some."""
        credentials = self._credentials
        return str(credentials.get_frozen_credentials().access_key) if credentials is not None and self.fresh else None

    def refresh(self) -> None:
        """
        Get credentials that are good for a while; may block, so not on an event loop's thread.

        Raises:
            MissingKeyError: there are none.
            ConfigurationError: they cannot be read.
        """
        errors = _module("botocore.exceptions")
        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials = _module("botocore.session").Session(profile=self._profile).get_credentials()
                if self._credentials is not None:
                    self._credentials.get_frozen_credentials()
            except errors.BotoCoreError as error:
                raise ConfigurationError(
                    f"AWS credentials cannot be had: {error}; check AWS_PROFILE, or log in again (aws sso login)"
                ) from error
            if self._credentials is None:
                raise MissingKeyError(
                    "no AWS credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
                    " or AWS_PROFILE"
                )

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """
        The headers that sign a request, to be added to those given.

        Args:
            url: the address as it is sent, percent-encoded.
            headers: those that the signature covers; the host is always among them.
            body: the body as it is sent.

        Raises:
            MissingKeyError, ConfigurationError: as ``refresh``, which is called first unless ``fresh``.
        """
        if not self.fresh:
            self.refresh()
        request = self._request.AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        frozen = self._credentials.get_frozen_credentials()
        self._auth.SigV4Auth(frozen, self._service, self._region).add_auth(request)
        given = {name.lower() for name in headers}
        return {name: str(value) for name, value in request.headers.items() if name.lower() not in given}

    def shown(self, url: str, body: bytes) -> tuple[dict[str, str], str | None]:
        """
        The headers that ``sign`` would add to a POST, values masked; no network is used and nothing kept.

        Returns:
            The headers, none where no credentials are on this machine as text, and then what is missing.
        """
        near = self._credentials if self.fresh else self._near()
        if near is None:
            return {}, (
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_BEARER_TOKEN_BEDROCK, or AWS_PROFILE) are not set;"
                " without them a login or this machine's own role is looked for when it is sent"
            )
        twin = SigV4Signer(self._region, profile=self._profile, service=self._service)
        twin._credentials = near
        signed = twin.sign("POST", url, {"Content-Type": "application/json"}, body)
        return {name: _signature_masked(name, value) for name, value in signed.items()}, None

    def _near(self) -> Any:
        """Credentials in variables and files, where no server need be asked; None for none."""
        errors = _module("botocore.exceptions")
        try:
            session = _module("botocore.session").Session(profile=self._profile)
            resolver = session.get_component("credential_provider")
            for name in _NEAR:
                provider = next((each for each in resolver.providers if name == each.METHOD), None)
                found = provider.load() if provider is not None else None
                if found is not None:
                    return found
        except errors.BotoCoreError:
            pass  # a profile that is not there is said by the call itself
        return None


def _signature_masked(name: str, value: str) -> str:
    if name.lower() != "authorization":
        return MASK
    # Which headers are signed is no secret.
    return re.sub(r"(Credential|Signature)=[^,\s]+", rf"\1={MASK}", value)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"signing requests to AWS needs botocore, which is not installed: {_INSTALL};"
            " or give a bearer key in AWS_BEARER_TOKEN_BEDROCK"
        ) from error
