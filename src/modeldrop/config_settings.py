"""``modeldrop.toml``: what a team's registries are called, what each of them needs, and which models it publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError, RecipeError, UsageError
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import NAME
from modeldrop.format.reference import parse_registry
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.config_models import ModelSettings

_MAX_TAGS = 10  # S3's limit


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What a registry needs besides its URL; "" and empty where the client's own default is right.

    Attributes:
        url: its URL or folder, in its one spelling.
        endpoint: the service's address, for S3-compatible and private services.
        region: the region of an S3 bucket.
        encryption_key: S3: the KMS key (id, ARN or alias) of SSE-KMS; GCS: the Cloud KMS key's resource
            name; Azure: the encryption scope. It is a name, not a secret.
        tags: object tags (S3), custom metadata (GCS), blob index tags (Azure).
        anonymous: read without signing in.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    encryption_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """All of modeldrop.toml.

    Attributes:
        registries: by their names.
        model_tables: the table ``models`` as it stands there; ``models`` reads it. A container that fetches need not.
        what: the file's name, for messages.
        folder: what paths of models are relative to; "" to leave them as they are.
    """

    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    model_tables: Mapping[str, Any] = field(default_factory=dict)
    what: str = "modeldrop.toml"
    folder: str = ""

    def models(self) -> dict[str, ModelSettings]:
        """The models by their names, in the order of the file.

        Raises:
            RecipeError: an unknown key, or a wrong value; it names the key.
        """
        from modeldrop.config_models import parse_models

        return parse_models(self.model_tables, self.what, self.folder)

    def of(self, registry: str) -> RegistrySettings:
        """The settings of a registry, given by its name here, its URL or its folder.

        Raises:
            UsageError: it is neither a name here nor a registry.
        """
        if registry in self.registries:
            return self.registries[registry]
        if NAME.fullmatch(registry):
            known = ", ".join(sorted(self.registries)) or "none"
            raise UsageError(
                f"{registry!r} is not the name of a registry in modeldrop.toml.",
                f"There: {known}. A folder is written with its start: ./{registry}.",
            )
        url = parse_registry(registry)
        return next((known for known in self.registries.values() if known.url == url), RegistrySettings(url))


def parse_settings(text: str, what: str = "modeldrop.toml") -> Settings:
    """Read modeldrop.toml.

    Raises:
        RecipeError: it is not TOML, or has an unknown key or a wrong value.
    """
    import tomllib  # a container that has no such file need not load it

    try:
        fields = Fields(tomllib.loads(text), "", what)
        table = fields.child("registries", optional=True)
        registries = {name: _registry(name, table.child(name)) for name in table.names()}
        models = fields.table("models")
        fields.refuse_unknown()
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{what} is not TOML: {error}.") from None
    except (FormatError, UsageError) as error:
        raise RecipeError(f"{what}: {error.message}", error.hint) from None
    return Settings(registries, models, what)


def _registry(name: str, fields: Fields) -> RegistrySettings:
    if not NAME.fullmatch(name):
        raise FormatError("a name has small letters, digits, '.', '_' and '-'", field=fields.path)
    table = fields.child("tags", optional=True)
    tags = {key: table.text(key, limit=256) for key in table.names()}
    if len(tags) > _MAX_TAGS:
        fields.fail(f"has {len(tags)} tags; at most {_MAX_TAGS} are allowed", "tags")
    settings = RegistrySettings(
        url=parse_registry(fields.text("url", limit=2048)),
        endpoint=fields.text("endpoint", default="", limit=2048).rstrip("/"),
        region=fields.text("region", default="", limit=64),
        encryption_key=fields.text("encryption-key", default="", limit=2048),
        tags=tags,
        anonymous=fields.boolean("anonymous", default=False),
    )
    if settings.endpoint and not settings.endpoint.startswith(("http://", "https://")):
        fields.fail("must begin with https:// (or http://)", "endpoint")
    if "@" in settings.endpoint.partition("://")[2].partition("/")[0]:
        fields.fail("must not hold a user name or password", "endpoint")
    fields.refuse_unknown()
    return settings
