"""What an operator can set: one class, from which flags, `POLYSEEK_…` variables, polyseek.toml and the docs derive."""

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from retriever.errors import InvalidSettings

MIB = 2**20


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"https?://[^/\s]+", value):
        raise ValueError(f"an origin is a scheme and a host, such as https://example.org, or *; not {value!r}")
    return value


T = TypeVar("T")
# In the environment, what a comma separates; in polyseek.toml a list.
Listed = Annotated[list[T], NoDecode, BeforeValidator(_listed)]
Origin = Annotated[str, AfterValidator(_origin)]


class Settings(BaseSettings):
    """Settings of the service; a flag wins over the environment, that over polyseek.toml, that over the default.

    Raises pydantic.ValidationError; `load` is the form with an error for users.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="POLYSEEK_",
        # A variable that is set to nothing (common in compose files) is no key and no host.
        env_ignore_empty=True,
        toml_file="polyseek.toml",
        # polyseek.toml is shared with the other commands, which have names of their own in it.
        extra="ignore",
        validate_default=True,
    )

    root: Annotated[Path, Field(description="Folder of the collections.")] = Path("polyseek-data")
    host: Annotated[
        str, Field(min_length=1, description="Address to listen on; anything but loopback needs a key.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = 8000
    api_key: Annotated[
        SecretStr | None,
        Field(
            description="A key with both scopes, beside those that `polyseek keys` made; for secrets of a deployment."
        ),
    ] = None
    rate_limit: Annotated[
        int | None, Field(ge=1, description="Requests that one key may make in a second; unset, as many as it likes.")
    ] = None
    cors_origins: Annotated[
        Listed[Origin], Field(description="Origins whose pages may call the service, such as https://example.org.")
    ] = []
    encoders: Annotated[
        Listed[str], Field(description="Encoders that clients may name: embedded ones, folders, hub ids.")
    ] = ["multilingual", "english"]
    reranker: Annotated[
        str | None, Field(description="Cross-encoder for searches that ask for `rerank`: a folder or a hub id.")
    ] = None
    memory: Annotated[
        ByteSize | None,
        Field(description="Memory that building a dense index may take, such as 4GiB; unset, half of what there is."),
    ] = None
    gpu_memory: Annotated[
        ByteSize | None,
        Field(description="GPU memory for vectors, such as 8GiB; 0 uses no GPU; unset, half of what is free."),
    ] = None
    # More than the cores: a request that reads from disk, or waits for SQLite's turn to write, uses none.
    threads: Annotated[int, Field(ge=1, description="Requests that are worked on at the same time.")] = 4 + (
        os.cpu_count() or 1
    )
    queue: Annotated[
        int, Field(ge=1, description="Texts and pictures that may wait to be encoded; what comes on top is refused.")
    ] = 1024
    query_cache: Annotated[
        int, Field(ge=0, description="Vectors of queries that are kept for the next one like it.")
    ] = 10_000
    max_timeout: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Most seconds that a search may take, whatever `timeout` it asks for.",
        ),
    ] = 30.0
    max_batch: Annotated[
        int, Field(ge=1, description="Searches of one batch, inputs of embeddings, or documents to rerank.")
    ] = 1_000
    max_documents: Annotated[int, Field(ge=1, description="Documents of one put, or ids of one deletion.")] = 10_000
    max_text_characters: Annotated[
        int, Field(ge=1, description="Longest text to search by, to embed or to rerank, in code points.")
    ] = 100_000
    max_body_bytes: Annotated[int, Field(ge=1, description="Largest body of a request, in bytes.")] = 64 * MIB
    max_picture_bytes: Annotated[
        int, Field(ge=1, description="Largest picture in a search or a document, in bytes after base64 is decoded.")
    ] = 20 * MIB
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="What is logged, from this level on.")
    ] = "info"
    log_queries: Annotated[bool, Field(description="Whether the log holds the texts that are searched for.")] = False
    drain_seconds: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Time between SIGTERM and the end of listening, in which /readyz is 503.",
        ),
    ] = 3.0
    shutdown_seconds: Annotated[
        int, Field(ge=1, description="Time that running requests get to end when the service is stopped.")
    ] = 10

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, strongest first."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    def to_toml(self) -> str:
        """These settings as a polyseek.toml, each with its sentence; a key is not shown."""
        return "\n".join(_toml_line(name, getattr(self, name)) for name in type(self).model_fields)


def load(**flags: object) -> Settings:
    """The settings in force; flags that are None were not given. Raises InvalidSettings."""
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InvalidSettings(
            f"{name} can't be {first['input']!r}: {first['msg'].removeprefix('Value error, ')}",
            hint=f"it comes from {_source(name, given)}",
        ) from None
    except ValueError as error:  # tomllib.TOMLDecodeError
        raise InvalidSettings(f"polyseek.toml is not valid TOML: {error}", hint="correct or remove it") from None


def is_loopback(host: str) -> bool:
    """Whether an address, or the name `localhost`, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _source(name: str, flags: Mapping[str, object]) -> str:
    """Where the value in force comes from, the strongest source first."""
    if name in flags:
        return f"the flag --{name}"
    variables = {variable.upper(): variable for variable, value in os.environ.items() if value}
    return variables.get(f"POLYSEEK_{name.upper()}") or "polyseek.toml"


def _toml_line(name: str, value: object) -> str:
    comment = f"# {Settings.model_fields[name].description}\n"
    if value is None:
        return f"{comment}# {name} ="
    if isinstance(value, SecretStr):
        return f"{comment}# {name} is set, and not shown"
    # A JSON string, number, boolean or list of strings is also a TOML one.
    shown = value if isinstance(value, int | float | list) else str(value)
    return f"{comment}{name} = {json.dumps(shown, ensure_ascii=False)}"
