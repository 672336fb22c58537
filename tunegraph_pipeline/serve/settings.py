"""The settings of a service, in a form that is passed to its workers.

Here: the settings, and what follows from them (whether the address is public, which rate limit applies). Not
here: the API key, which stays in the environment and is read only by `access`, or the limits of a request
(`limits`).
"""

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tunegraph_pipeline.errors import InputError

ENVIRONMENT = "TUNEGRAPH_SERVICE"
"""The variable that passes the settings to the workers."""

DEFAULT_PUBLIC_RATE = 50.0
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?", re.IGNORECASE)


class ServiceSettings(BaseModel):
    """How one service runs; the same for all of its workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lake: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    reload_seconds: float = Field(default=1.0, gt=0)
    """How often to look for a newly published bundle."""
    rate_limit: float | None = Field(default=None, ge=0)
    """Requests per second and client; 0 for no limit, None for the default of the address."""
    proxies: int = Field(default=0, ge=0)
    """The number of own proxies in front of the service; as many last X-Forwarded-For entries are trusted."""
    cors_origins: tuple[str, ...] = ()
    blocklist: Path | None = None
    access_log: bool = True
    run_folder: Path | None = None
    """Shared by the workers: their metrics, and the version they serve. None with a single worker."""

    @property
    def serving(self) -> Path:
        return self.lake / "serving"

    @property
    def public(self) -> bool:
        """Whether other machines can reach the service, directly or through a proxy."""
        return self.proxies > 0 or not is_loopback(self.host)

    @property
    def requests_per_second(self) -> float | None:
        """The rate limit of one client, None without a limit."""
        if self.rate_limit is None:
            return DEFAULT_PUBLIC_RATE if self.public else None
        return self.rate_limit or None

    @classmethod
    def of_environment(cls) -> Self:
        return cls.model_validate_json(os.environ[ENVIRONMENT])


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is only this machine: all of its addresses are loopback."""
    try:
        addresses = [str(entry[4][0]) for entry in socket.getaddrinfo(host, None)] if host else []
    except OSError:
        return False
    return bool(addresses) and all(
        ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses
    )


def check_origin(origin: str) -> str:
    """The origin as browsers send it. Raises InputError if it cannot be an origin."""
    if origin != "*" and _ORIGIN.fullmatch(origin) is None:
        raise InputError(
            f"--cors-origin {origin}: an origin is scheme and host, as in https://music.example.org, or *"
        )
    return origin.lower()
