"""What an operator can set, and where it comes from: flags, then the environment (`JAXPROP_...`), then a TOML file.

A name that is not a setting is refused with the nearest one that is, wherever it was written, the environment included:
a misspelt limit must not look like a limit.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    model_validator,
)  # fmt: skip

from jaxprop.errors import JaxpropError, pick

PREFIX = "JAXPROP_"
CONFIG = "JAXPROP_CONFIG"  # names the TOML file
NO_SETTINGS = (CONFIG, "JAXPROP_HUGE_PAGES")  # the other is for how commands start
LEAST_TOKEN = 16  # characters, of a token in a file
VERSIONS = re.compile(r"all|latest(:[1-9][0-9]{0,8})?|[1-9][0-9]{0,17}(,[1-9][0-9]{0,17})*")


def _off(value: object) -> object:
    return None if isinstance(value, str) and value.lower() in ("off", "none", "") else value


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _policy(value: object) -> str:
    """Return which versions are served, as one word: a list of numbers may be a list in the TOML file."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = "".join(text.split()).strip(",")
    if not VERSIONS.fullmatch(text):
        raise ValueError("expected all, latest, latest:2 (the two highest) or numbers such as 1,3")
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
MOST = 2**31 - 1  # gRPC takes numbers of 32 bits alone, times as milliseconds
Count = Annotated[int, Field(gt=0, le=MOST // 2)]
Seconds = Annotated[float, Field(gt=0, le=MOST // 1000, allow_inf_nan=False)]
Size = Annotated[ByteSize, Field(gt=0)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Token = Annotated[SecretStr | None, BeforeValidator(_off)]
File = Annotated[Path | None, BeforeValidator(_off)]
Versions = Annotated[str, BeforeValidator(_policy)]


class Settings(BaseModel):
    """Every setting with its default. Lists may be written as `a,b`; sizes as `16MiB`; port 0 is any free port.

    >>> Settings().port, Settings(max_body_bytes="1MiB").max_body_bytes
    (8000, 1048576)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Port = 8000
    unix_socket: File = None
    grpc_port: Annotated[Port | None, BeforeValidator(_off)] = 8001
    workers: Annotated[int, Field(ge=1, le=256)] = 1

    versions: Versions = "all"
    max_batch: Annotated[int, Field(ge=1, le=65536)] = 64
    batching: bool = True
    max_delay_us: NonNegativeInt = 0
    max_queue_rows: Count = 4096
    max_queue_bytes: Size = ByteSize(64 << 20)

    max_body_bytes: Annotated[ByteSize, Field(gt=0, le=MOST)] = ByteSize(16 << 20)
    max_rows: PositiveInt = 8192
    max_answer_bytes: Size = ByteSize(64 << 20)
    max_json_depth: Annotated[int, Field(ge=4, le=500)] = 100
    header_timeout_s: Seconds = 10
    body_timeout_s: Seconds = 30
    idle_timeout_s: Seconds = 75
    max_connections: Count = 1024
    drain_timeout_s: Seconds = 10
    compression: bool = True

    token: Token = None
    admin_token: Token = None
    token_file: File = None
    admin_token_file: File = None
    allowed_hosts: Words = ()
    allowed_origins: Words = ()
    tls_cert: File = None
    tls_key: File = None

    explain_limit: PositiveInt = 64
    explain_concurrency: PositiveInt = 2

    runtimes: Words = ("jaxprop", "export")
    explainers: Words = ("gradient",)
    stores: Words = ("folder",)
    services: Words = ()
    access_log: bool = True
    tracing: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="before")
    @classmethod
    def _tokens_from_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        found = dict(given)
        for name in ("token", "admin_token"):
            if file := _off(given.get(f"{name}_file")):
                if _off(given.get(name)):
                    raise ValueError(f"{name} and {name}_file are both given: keep one")
                found[name] = _token_in(name, Path(str(file)))
        return found

    @model_validator(mode="after")
    def _tokens(self) -> "Settings":
        if not is_loopback(self.host) and not (self.token and self.admin_token):
            raise ValueError(
                f"host {self.host} can be reached from other machines: set JAXPROP_TOKEN and JAXPROP_ADMIN_TOKEN "
                "(or token and admin_token in the TOML file, or token_file and admin_token_file), or serve on 127.0.0.1"
            )
        given = {name: t.get_secret_value() for name in ("token", "admin_token") if (t := getattr(self, name))}
        if not all(33 <= ord(c) <= 126 for token in given.values() for c in token):
            raise ValueError("token and admin_token travel in a header: printable ASCII without spaces, found others")
        if len(given) > len(set(given.values())):
            raise ValueError("token and admin_token are the same: whoever may ask could load and unload; choose two")
        for name, token in given.items():
            file = getattr(self, f"{name}_file")
            if file and len(token) < LEAST_TOKEN:
                raise ValueError(
                    f"{file}: a token of {len(token)} characters, which can be guessed; expected at least "
                    f"{LEAST_TOKEN}, such as those of `openssl rand -hex 24`"
                )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: a certificate is of no use without its key")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not os.access(file, os.R_OK):
                raise ValueError(f"{file} cannot be read: tls_cert and tls_key are PEM files")
        if self.port == self.grpc_port != 0 and self.unix_socket is None:
            raise ValueError(f"port and grpc_port are both {self.port}: HTTP and gRPC need one each")
        return self

    def renewed(self) -> "Settings":
        """Return the same settings with the tokens that their files hold now. Raises JaxpropError, as `read` does."""
        from_files = {name for name in ("token", "admin_token") if getattr(self, f"{name}_file") is not None}
        return _made({name: getattr(self, name) for name in self.model_fields_set - from_files})

    def shown(self) -> dict[str, Any]:
        """Return all settings as plain data, with tokens hidden."""
        return self.model_dump(mode="json")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read(flags: Mapping[str, Any], file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings: `flags` before the environment before the TOML `file` (or the one that JAXPROP_CONFIG names).

    Raises JaxpropError, one line, for a name that is no setting and a value that is none.
    """
    environment = os.environ if environment is None else environment
    file = file or (Path(environment[CONFIG]) if environment.get(CONFIG) else None)
    given = _toml(file) | _environment(environment) | dict(flags)
    for name in given:
        pick(name, Settings.model_fields, "setting")
    return _made(given)


def _made(given: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        shown = "" if "token" in where or not where else f", found {str(given.get(where))[:80]!r}"
        raise JaxpropError(f"setting {where}: {text}{shown}" if where else text) from None


def _token_in(name: str, file: Path) -> str:
    """Return the one token of a file, without the line's end."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"{name}_file {file} cannot be read: {why}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{name}_file {file} is empty, expected a token")
    return text


def _environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable, value in environment.items():
        if variable.upper().startswith(PREFIX) and variable.upper() not in NO_SETTINGS:
            name = variable[len(PREFIX) :].lower()
            try:
                found[pick(name, Settings.model_fields, "setting")] = value
            except JaxpropError as error:
                raise JaxpropError(f"environment variable {variable}: {error}") from None
    return found


def _toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        found = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise JaxpropError(f"settings file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JaxpropError(f"settings file {file} is not TOML: {error}") from None
    try:
        for name in found:
            pick(name, Settings.model_fields, "setting")
    except JaxpropError as error:
        raise JaxpropError(f"settings file {file}: {error}") from None
    return found
