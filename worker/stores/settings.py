"""Settings of the service from `BETAVAE_…` environment variables. This module loads no torch."""

import base64
import difflib
import hashlib
import ipaddress
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.stores.redis_urls import celery_url, checked_redis_url, socket_url

PREFIX = "BETAVAE_"
TEMPORARY = "tmp"
"""Name of the temporary folder in the data folder."""
MAX_SOCKET_PATH_BYTES = 100
"""Longest path of a Unix socket; sockaddr_un holds 108 bytes on Linux and 104 on macOS."""
_HOST = re.compile(r"[a-z0-9._-]+|\[?[0-9a-f]*:[0-9a-f:.]+\]?")
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?")
_DEFAULT_PORT = re.compile(r"^(http://.*(?=:80$)|https://.*(?=:443$)):\d+$")


class SettingsError(ValueError):
    """A setting is unknown or its value is not allowed; the text is one line for people."""


class Settings(BaseSettings):
    """Every setting of the service; its environment variable is `BETAVAE_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: Path = Field(
        Path("betavae-data"), description="Data folder: models, data sets, jobs, traversals, the embedded Redis."
    )
    host: str = Field("127.0.0.1", description="Address that the HTTP server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the HTTP server; 0 takes a free one.")
    published_host: str | None = Field(
        None,
        description="Address at which others reach the service where that is not `BETAVAE_HOST`, as with a container; "
        "it decides with the tokens whether the service starts.",
    )
    open_to_network: bool = Field(
        False,
        description="Serve other machines although there are no tokens: everybody who reaches the port may do "
        "everything.",
    )
    root_path: str | None = Field(
        None,
        description="Path under which a proxy publishes the service (`/vae`), whether the proxy takes it off or not.",
    )
    allowed_hosts: str | None = Field(
        None,
        description="Host names, separated by commas, that requests may name beside this machine's own and "
        "`BETAVAE_HOST`; `*`: every name.",
    )
    allowed_origins: str | None = Field(
        None,
        description="Origins of other sites, separated by commas (`https://lab.example`), whose pages may use the API.",
    )
    embed_hosts: str | None = Field(
        None,
        description="Origins of other sites, separated by commas (`https://blog.example`, `https://*.school.example`), "
        "whose pages may frame `/embed`; `*`: every site; empty: `/embed` is off.",
    )
    redis_url: str | None = Field(
        None,
        description="Redis of the job system (redis://, rediss:// or unix://); empty: the embedded server.",
    )
    storage_url: str | None = Field(
        None,
        description="Folder or fsspec URL where models, data sets, jobs and traversals last; empty: the data folder.",
    )
    device: str = Field("auto", description="Device of the workers: auto, cpu, or cuda:N.")
    checkpoint_seconds: float = Field(
        60.0, gt=0, le=86_400, description="Seconds between checkpoints, the most work that a killed worker loses."
    )
    lease_seconds: float = Field(
        30.0,
        ge=0.2,
        le=3600,
        description="Seconds without a sign of life after which a job is given to another worker.",
    )
    max_upload_bytes: int = Field(
        32 * 1024**2, gt=0, description="Largest body of a request that carries an image, in bytes."
    )
    max_dataset_upload_bytes: int = Field(
        4 * 1024**3, gt=0, description="Largest upload of a data set or a model, in bytes."
    )
    max_image_pixels: int = Field(
        50_000_000,
        gt=0,
        description="Largest picture, in pixels, that is decoded: a guard against decompression bombs.",
    )
    max_waiting_jobs: int = Field(
        1000, gt=0, description="Jobs that may wait in the queues; more are refused with 429."
    )
    max_client_jobs: int = Field(
        100,
        gt=0,
        description="Unfinished jobs of one kind (traversals, trainings, evaluations, packings, sweeps) that one "
        "client may have; more are refused with 429.",
    )
    max_client_calls: int = Field(
        64,
        gt=0,
        description="Calls of models (encode, decode, reconstruct, …) that one client may have in flight; more are "
        "refused with 429.",
    )
    min_free_bytes: int = Field(
        512 * 1024**2,
        ge=0,
        description="Free space that new files must leave on the disk, in bytes; running jobs may still write their "
        "states and checkpoints.",
    )
    max_storage_bytes: int | None = Field(
        None, gt=0, description="Largest size of a storage that is a folder, in bytes; empty: the size of the disk."
    )
    webhook_secret: str | None = Field(
        None, description="Secret that signs webhooks: `whsec_` and 24 to 64 random bytes in base64."
    )
    webhook_hosts: str | None = Field(
        None,
        description="Hosts that webhooks may be sent to, separated by commas (`lab.example`, `ci.example:8443`); "
        "a host with a private address needs this address in the list too; empty: webhooks are off.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Format of the log: text, or json with a line for each answer of the API as well."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator(
        "redis_url", "storage_url", "published_host", "root_path", "allowed_hosts", "allowed_origins", "embed_hosts",
        "max_storage_bytes", "webhook_secret", "webhook_hosts",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("device")
    @classmethod
    def _device_name(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda|cuda:\d{1,3}", value):
            raise ValueError(f"must be auto, cpu, or cuda:N, not {value!r}")
        return value

    @field_validator("root_path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not _ROOT_PATH.fullmatch(value):
            raise ValueError(f"must be a path such as /vae, without a slash at its end, not {value!r}")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: str | None) -> str | None:
        for name in _listed(value):
            if name != "*" and not _HOST.fullmatch(name):
                raise ValueError(f"must hold host names without scheme and port, or *, not {name!r}")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: str | None) -> str | None:
        for name in _listed(value):
            if not _ORIGIN.fullmatch(name):
                raise ValueError(f"must hold origins such as https://lab.example:8443, without a path, not {name!r}")
        return value

    @field_validator("embed_hosts")
    @classmethod
    def _frame_ancestors(cls, value: str | None) -> str | None:
        for name in _listed(value):
            if name != "*" and not _ORIGIN.fullmatch(name.replace("://*.", "://", 1)):
                raise ValueError(
                    f"must hold origins such as https://*.school.example, without a path, or *, not {name!r}"
                )
        return value

    @field_validator("redis_url")
    @classmethod
    def _usable_redis(cls, value: str | None) -> str | None:
        return value if value is None else checked_redis_url(value)

    @field_validator("webhook_secret")
    @classmethod
    def _secret(cls, value: str | None) -> str | None:
        try:
            key = base64.b64decode((value or "").removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if value is not None and not (value.startswith("whsec_") and 24 <= len(key) <= 64):
            raise ValueError("must be whsec_ and 24 to 64 bytes in base64: whsec_$(openssl rand -base64 32)")
        return value

    @field_validator("webhook_hosts")
    @classmethod
    def _webhook_hosts(cls, value: str | None, info: ValidationInfo) -> str | None:
        for name in _listed(value):
            if not _ORIGIN.fullmatch(f"https://{name}"):
                raise ValueError(f"must hold hosts such as lab.example or ci.example:8443, not {name!r}")
        if value is not None and info.data.get("webhook_secret") is None:
            raise ValueError(f"needs {PREFIX}WEBHOOK_SECRET, which signs what is sent")
        return value

    @field_validator("open_to_network", mode="before")
    @classmethod
    def _empty_is_false(cls, value: object) -> object:
        return False if value == "" else value

    @property
    def serves_other_machines(self) -> bool:
        """Whether the service is reached at an address that is not this machine's own loopback."""
        host = (self.published_host or self.host).strip("[]")
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host.lower() != "localhost"

    @property
    def allowed_host_names(self) -> tuple[str, ...]:
        """The host names in allowed_hosts."""
        return _listed(self.allowed_hosts)

    @property
    def allowed_origin_names(self) -> tuple[str, ...]:
        """The origins in allowed_origins, as browsers write them."""
        return tuple(_DEFAULT_PORT.sub(r"\1", origin) for origin in _listed(self.allowed_origins))

    @property
    def embed_host_names(self) -> tuple[str, ...]:
        """The origins in embed_hosts."""
        return _listed(self.embed_hosts)

    @property
    def webhook_host_names(self) -> tuple[str, ...]:
        """The hosts in webhook_hosts."""
        return _listed(self.webhook_hosts)

    @property
    def storage(self) -> str:
        """The folder or URL of the storage."""
        return self.storage_url or str(self.home)

    @property
    def cache_folder(self) -> Path:
        """The folder of local copies of a remote storage, and of the run folders of trainings with such a storage."""
        return self.home / "cache"

    @property
    def temporary_folder(self) -> Path:
        """The folder for temporary files, TMPDIR of the service; the system's own may be in memory and small."""
        return self.home / TEMPORARY

    def make_temporary_folder(self) -> None:
        """Makes the temporary folder.

        Raises:
            OSError: The data folder cannot be written; the text is one line.
        """
        try:
            self.temporary_folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.temporary_folder).close()
        except OSError as error:
            raise OSError(f"the data folder {self.home} cannot be written: {error.strerror}") from error

    @property
    def embedded_redis_folder(self) -> Path:
        """The folder of the embedded Redis."""
        return self.home / "redis"

    @property
    def embedded_redis_url(self) -> str:
        """The address of the embedded Redis, which stands in for an empty redis_url.

        Raises:
            SettingsError: The short folder of its socket belongs to another user.
        """
        return socket_url(socket_path(self.embedded_redis_folder))

    @property
    def broker_url(self) -> str:
        """redis_url as Celery takes it.

        Raises:
            SettingsError: There is no redis_url.
        """
        if self.redis_url is None:
            raise SettingsError(f"{PREFIX}REDIS_URL is not set; `betavae serve` starts an embedded Redis and sets it")
        return celery_url(self.redis_url)


def socket_path(folder: Path) -> Path:
    """Returns the path of the embedded Redis' Unix socket.

    Args:
        folder: The folder of the embedded Redis.

    Returns:
        A path in the folder, or in a short private folder, which is made, if the former is too long for a socket or is
        not UTF-8, which an address has to be.

    Raises:
        SettingsError: The short folder belongs to another user or is open to others.
    """
    path = folder / "broker.sock"
    is_utf8 = not any("\udc80" <= character <= "\udcff" for character in str(path))
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES and is_utf8:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    private = Path("/tmp") / f"betavae-{os.getuid()}-{digest}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SettingsError(f"{private} exists and is not a private folder of this user; remove it.")
    return private / "broker.sock"


def _listed(value: str | None) -> tuple[str, ...]:
    """Returns the entries of a list separated by commas, in lower case."""
    return tuple(entry for part in (value or "").split(",") if (entry := part.strip().lower()))


def load_settings() -> Settings:
    """Reads the settings from the environment.

    Raises:
        SettingsError: A `BETAVAE_…` variable is unknown (the text names the nearest known one), or a value is bad.
    """
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in known:
            # The names are compared without their common prefix, which would make any two of them similar.
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            raise SettingsError(f"{variable} is not a setting{hint}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + ".".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
