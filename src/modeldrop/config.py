"""What modeldrop can be told besides its arguments: by environment variables and by ``modeldrop.toml``.

``SETTINGS`` is the table of what may be said in more than one place, and which place wins. ``modeldrop.toml`` is the
file that ``MODELDROP_CONFIG`` names, else the one in the current folder, if there is one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import DiskError, FormatError, RecipeError, UsageError
from modeldrop.format.json_fields import Fields
from modeldrop.format.names import DEFAULT_CHANNEL, NAME
from modeldrop.format.reference import parse_registry
from modeldrop.util.files import expand_user
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import is_true, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modeldrop.trust.attestation import Builder
    from modeldrop.trust.rules import Trust

CONFIG_FILE = "modeldrop.toml"
_MAX_TAGS = 10  # S3's limit
_MAX_TRUSTED = 16
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_ACLS = (
    "private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
    "bucket-owner-full-control",
)  # fmt: skip
_SKIP_SIGNATURE = {"s3": "AWS_SKIP_SIGNATURE", "gs": "GOOGLE_SKIP_SIGNATURE", "az": "AZURE_SKIP_SIGNATURE"}
_S3_ALONE = ("encryption", "acl", "requester-pays")


def read_duration(text: str, where: str, *, unit: str = "") -> float:
    """Seconds of ``90m``, ``24h``, ``30d``, as an option, a variable or an input has them.

    Args:
        text: what was written.
        where: where it was written, for the message.
        unit: what a bare number counts, such as ``s``; "" refuses a bare number.

    Raises:
        UsageError: it is no duration.
    """
    try:
        return parse_duration(text, unit)
    except ValueError as error:
        raise UsageError(
            f"{where} {error}".strip(), "Write a number and a unit: 90m, 24h, 30d (s, m, h, d or w)."
        ) from None


def _text(text: str, _where: str) -> str:
    return text


def _seconds(text: str, where: str) -> float:
    return read_duration(text, where, unit="s")


def _age(text: str, where: str) -> float | None:
    return _seconds(text, where) if text else None


def _timeout(text: str, where: str) -> float:
    seconds = _seconds(text, where)
    if not seconds:
        raise UsageError(f"{where} is 0; a fetch needs some time.", "Write a limit such as 5m.")
    return seconds


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"{where} {text[:40]!r} is not a number.", "Write 0 or more.")
    return int(text)


def _one_of(*values: str) -> Callable[[str, str], str]:
    def read(text: str, where: str) -> str:
        if text not in values:
            raise UsageError(f"{where} cannot be {text[:40]!r}.", f"Write one of: {', '.join(values)}.")
        return text

    return read


def _yes_or_no(text: str, where: str) -> bool:
    if text.lower() not in {"yes", "true", "1", "no", "false", "0"}:
        raise UsageError(f"{where} cannot be {text[:40]!r}.", "Write yes or no.")
    return text.lower() in {"yes", "true", "1"}


class Setting:
    """Something that may be said in several places; the first that says it counts.

    Args:
        places: an option of the command line, a variable of the environment, a key of modeldrop.toml; in the order
            in which they count. An empty variable says nothing.
        default: where none says it, in the same spelling.
        read: its value, from what was written and from where; raises UsageError.
    """

    __slots__ = ("default", "places", "read")

    def __init__(self, places: tuple[str, ...], default: str = "", read: Callable[[str, str], Any] = _text) -> None:
        self.places = places
        self.default = default
        self.read = read

    @property
    def option(self) -> str:
        """Its option, or ""."""
        return next((place for place in self.places if place.startswith("-")), "")

    @property
    def variable(self) -> str:
        """Its environment variable, or ""."""
        return next((place for place in self.places if place.startswith("MODELDROP_")), "")


# What has one place only is not here, unless it is a variable: options are in --help, the keys of a recipe in
# docs/variants.md, those of a registry at RegistrySettings. NAME stands for a model's.
SETTINGS = {
    # where things are
    "config": Setting(("MODELDROP_CONFIG",), CONFIG_FILE),
    "home": Setting(("--directory", "MODELDROP_HOME"), "$XDG_CACHE_HOME/modeldrop, ~/.cache/modeldrop"),
    "registry": Setting(("REGISTRY", "models.NAME.registry", "MODELDROP_REGISTRY"), "the only one in the file"),
    # fetching: fetch, run and watch
    "variant": Setting(("--variant", "MODELDROP_VARIANT", "models.NAME.fetch.variant"), "auto"),
    "on_unavailable": Setting(
        ("--on-unavailable", "MODELDROP_ON_UNAVAILABLE"), "last-good", _one_of("last-good", "fail", "offline")
    ),
    "max_stale": Setting(("--max-stale", "MODELDROP_MAX_STALE"), "", _age),
    "min_generation": Setting(("--min-generation", "MODELDROP_MIN_GENERATION"), "0", _count),
    "accept_older_generation": Setting(
        ("--accept-older-generation", "MODELDROP_ACCEPT_OLDER_GENERATION"), "no", _yes_or_no
    ),
    "trust": Setting(("--trust", "MODELDROP_TRUST", "trust")),
    "trust_threshold": Setting(("--trust-threshold", "MODELDROP_TRUST_THRESHOLD", "threshold"), "1", _count),
    "require_attestation": Setting(("--require-attestation", "MODELDROP_REQUIRE_ATTESTATION", "require-attestation")),
    "no_delta": Setting(("--no-delta", "MODELDROP_NO_DELTA"), "no", _yes_or_no),
    "sigstore_root": Setting(("MODELDROP_SIGSTORE_ROOT",), "what came with sigstore"),
    "timeout": Setting(("--timeout", "MODELDROP_TIMEOUT"), "30m", _timeout),
    "start_jitter": Setting(("--start-jitter", "MODELDROP_START_JITTER"), "0s", _seconds),
    "log_format": Setting(("--log-format", "MODELDROP_LOG_FORMAT"), "text", _one_of("text", "json")),
    "metrics": Setting(("--metrics", "MODELDROP_METRICS")),
    "cpu": Setting(("MODELDROP_CPU",), "this machine's"),
    "post_authorization": Setting(("MODELDROP_POST_AUTHORIZATION",)),  # --post-auth-env names another variable
    # publishing
    "source": Setting(("SOURCE", "models.NAME.source")),
    "channel": Setting(("--channel", "models.NAME.channel"), DEFAULT_CHANNEL),
    "test": Setting(("--test", "models.NAME.test")),
    "deltas": Setting(("--deltas", "models.NAME.deltas"), "2", _count),
    "recipe": Setting(("--recipe", "models.NAME.recipe")),
    "exporter_python": Setting(("MODELDROP_EXPORTER_PYTHON",), "what exporter install has made, else our own"),
    "exporters": Setting(("MODELDROP_EXPORTERS",), "modeldrop-exporters in the user's cache"),
    "signing_key": Setting(("MODELDROP_SIGNING_KEY",)),
    "expires_in": Setting(("MODELDROP_EXPIRES_IN",), "", _age),  # else as before; refresh takes an option
    "show_inputs": Setting(("MODELDROP_SHOW_INPUTS",), "yes", _yes_or_no),
    # who did it, where continuous integration does not say so
    "actor": Setting(("MODELDROP_ACTOR",), "the user and the machine"),
    "run": Setting(("MODELDROP_RUN",)),
    "git_repository": Setting(("MODELDROP_GIT_REPOSITORY",)),
    "git_commit": Setting(("MODELDROP_GIT_COMMIT",)),
}


def variable(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """What the environment says of a setting, without white space around it; "" where it says nothing."""
    return environment.get(SETTINGS[name].variable, "").strip()


def setting(name: str, given: str | None = None) -> Any:
    """The value of a setting: of its option where that was given, else of its variable, else its default.

    Args:
        name: its name in ``SETTINGS``.
        given: what its option says, None where it was not written.

    Raises:
        UsageError: a value that it cannot have; the message names the option or the variable.
    """
    known = SETTINGS[name]
    if given is not None:
        return known.read(given, known.option)
    if found := variable(name):
        return known.read(found, known.variable)
    return known.read(known.default, known.option)


class RegistrySettings(NamedTuple):
    """What a registry needs besides its URL; "" and empty where the client's own default is right.

    In modeldrop.toml the table ``[registries.<name>]``, with the same keys (``encryption-key``).

    Attributes:
        url: its URL or folder, in its one spelling.
        endpoint: the service's address, for S3-compatible and private services.
        region: the region of an S3 bucket.
        encryption_key: S3: the KMS key (id, ARN or alias) of SSE-KMS; GCS: the Cloud KMS key's resource
            name; Azure: the encryption scope. It is a name, not a secret.
        tags: object tags (S3), custom metadata (GCS), blob index tags (Azure).
        anonymous: read without signing in.
        encryption: S3: how new objects are encrypted, such as ``AES256``, where the bucket's policy wants that said.
        acl: S3: the canned ACL of new objects, such as ``bucket-owner-full-control``, where it wants that said.
        requester_pays: S3: whoever asks pays for the request.
        site: whether what changes the registry keeps its pages up to date (``modeldrop site --publish``).
        section: which table of modeldrop.toml they are from, by its name; "" where none has this URL or the start of
            it.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    encryption_key: str = ""
    tags: Mapping[str, str] = {}
    anonymous: bool = False
    encryption: str = ""
    acl: str = ""
    requester_pays: bool = False
    site: bool = False
    section: str = ""


class ConfigFile:
    """All of modeldrop.toml.

    Args:
        registries: by their names.
        model_tables: the table ``models`` as it stands there; ``model_settings`` reads it, containers need not.
        what: the file's name, for messages.
        folder: what paths are relative to; "" to leave them as they are.
        trust: the public keys whose signatures are believed, as they stand there; empty where nothing need be signed.
        threshold: how many of them must have signed; None where it does not say.
        require_attestation: whose attestation a version must have, as it stands there; "" where none need be.
    """

    __slots__ = ("folder", "model_tables", "registries", "require_attestation", "threshold", "trust", "what")

    def __init__(
        self,
        registries: Mapping[str, RegistrySettings] | None = None,
        model_tables: Mapping[str, Any] | None = None,
        what: str = CONFIG_FILE,
        folder: str = "",
        *,
        trust: tuple[str, ...] = (),
        threshold: int | None = None,
        require_attestation: str = "",
    ) -> None:
        self.trust = trust
        self.require_attestation = require_attestation
        self.threshold = threshold
        self.registries = registries or {}
        self.model_tables = model_tables or {}
        self.what = what
        self.folder = folder

    def as_written(self) -> ConfigFile:
        """The same, with the paths of its models as they stand in the file."""
        return ConfigFile(
            self.registries,
            self.model_tables,
            self.what,
            trust=self.trust,
            threshold=self.threshold,
            require_attestation=self.require_attestation,
        )

    def registry(self, registry: str) -> RegistrySettings:
        """The settings of a registry, given by its name here, its URL or its folder.

        Of the tables whose URL is this one, or its start up to a slash, that with the longest applies, as a whole.

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
        segments, found, most = _segments(url), RegistrySettings(url), 0
        for table in self.registries.values():
            start = _segments(table.url)
            if len(start) > most and segments[: len(start)] == start:
                found, most = table._replace(url=url), len(start)
        return found

    def has_url(self, url: str) -> bool:
        """Whether a table has this very URL or folder, so that it is a registry and no model in one."""
        return any(_segments(known.url) == _segments(url) for known in self.registries.values())


_loaded: dict[tuple[Any, ...], ConfigFile] = {}


def load_config_file() -> ConfigFile:
    """What modeldrop.toml says; folders and files in it are relative to it. Empty where there is none.

    It is read again only after it has changed: one command asks for it several times.

    Raises:
        RecipeError: ``MODELDROP_CONFIG`` names no file that can be read, or what it holds is wrong.
    """
    named = variable("config")
    path = Path(named or CONFIG_FILE).absolute()
    try:
        status = path.stat()
        key = (path, named, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in _loaded:
            config = parse_config(path.read_text("utf-8"), str(Path(named or CONFIG_FILE)), str(path.parent))
            _loaded.clear()
            _loaded[key] = config
        return _loaded[key]
    except FileNotFoundError:
        if not named:
            return ConfigFile()
        raise RecipeError(f"MODELDROP_CONFIG names {named}, which is not there.", "Correct or unset it.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise RecipeError(f"{Path(named or CONFIG_FILE)} cannot be read: {reason}.") from None


def parse_config(text: str, what: str = CONFIG_FILE, folder: str = "") -> ConfigFile:
    """Read the text of a modeldrop.toml.

    Args:
        text: all of it.
        what: the file's name, for messages.
        folder: what paths in it are relative to; "" to leave them as they are.

    Raises:
        RecipeError: it is not TOML, or has an unknown key or a wrong value.
    """
    import tomllib  # a container that has no such file need not load it

    try:
        fields = Fields(tomllib.loads(text), "", what)
        table = fields.child("registries", optional=True)
        registries = {name: _registry(name, table.child(name), folder) for name in table.names()}
        _refuse_contradictions(registries)
        models = fields.table("models")
        trust = fields.text_or_texts("trust", limit=_MAX_TRUSTED, default=())
        threshold = fields.integer("threshold", low=1, high=_MAX_TRUSTED, default=None)
        if not trust and (fields.has("trust") or threshold is not None):
            fields.fail("names no key, and so would trust nobody; leave it out to trust the registry", "trust")
        require_attestation = fields.text("require-attestation", default="", limit=1024)
        fields.refuse_unknown()
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{what} is not TOML: {error}.") from None
    except (FormatError, UsageError) as error:
        raise RecipeError(f"{what}: {error.message}", error.hint) from None
    return ConfigFile(
        registries, models, what, folder, trust=trust, threshold=threshold, require_attestation=require_attestation
    )


def registry_settings(registry: str) -> RegistrySettings:
    """The settings of a registry: its name in modeldrop.toml, its URL or its folder.

    A variable such as ``AWS_SKIP_SIGNATURE`` means ``anonymous`` for every registry of its cloud.

    Raises:
        UsageError: it cannot be a registry, or none is named.
        RecipeError: modeldrop.toml is wrong.
    """
    settings = load_config_file().registry(registry)
    return settings._replace(anonymous=True) if _skips_signature(settings) else settings


def anonymous_by(settings: RegistrySettings) -> str:
    """What says that a registry is read without signing in."""
    return _skips_signature(settings) or "anonymous = true in modeldrop.toml"


def _skips_signature(settings: RegistrySettings) -> str:
    name = _SKIP_SIGNATURE.get(settings.url.partition("://")[0], "")
    return name if name and is_true(os.environ.get(name)) else ""


def registry_url(registry: str) -> str:
    """The URL of a registry, or the absolute path of its folder, in its one spelling; given as ``registry_settings``.

    Raises:
        UsageError: it cannot be a registry, or none is named.
        RecipeError: modeldrop.toml is wrong.
    """
    return one_spelling(registry_settings(registry).url)


def one_spelling(url: str) -> str:
    """A URL as it is; a folder as the same absolute path, wherever and however it was named."""
    if "://" in url:
        return url
    folder = expand_user(url).absolute()
    return str(folder.resolve() if ".." in folder.parts else folder)


def default_registry() -> str:
    """The URL or folder of the registry that bare model names live in (``MODELDROP_REGISTRY``), or "".

    Raises:
        UsageError: it names none.
    """
    named = variable("registry")
    return registry_settings(named).url if named else ""


def trusted_keys(keys: Sequence[str] | str | None = None, threshold: int | None = None) -> Trust | None:
    """Whose signatures are believed: as given, else as MODELDROP_TRUST or modeldrop.toml says; None for anybody.

    Args:
        keys: public keys, None where none were given.
        threshold: how many of them must have signed; None where that was not given.

    Raises:
        UsageError: a key is none, or the threshold cannot be reached.
        RecipeError: modeldrop.toml is wrong.
    """
    where, named, least = "trust", variable("trust"), variable("trust_threshold")
    file = ConfigFile() if keys is not None or named else load_config_file()
    if keys is None:
        keys, where = (named, "MODELDROP_TRUST") if named else (file.trust or None, file.what)
    if threshold is None:
        threshold = setting("trust_threshold") if least else file.threshold
    if keys is None:
        if threshold is None:
            return None
        raise UsageError(
            f"{threshold} trusted keys are to have signed, and none is named.",
            "Name them: --trust, MODELDROP_TRUST, or trust in modeldrop.toml.",
        )
    from modeldrop.trust.public_keys import split_keys  # who trusts the registry need not load it
    from modeldrop.trust.rules import make_trust

    texts = [text for one in ([keys] if isinstance(keys, str) else keys) for text in split_keys(one)]
    return make_trust(texts, 1 if threshold is None else threshold, where)


def required_builder(given: str | None = None) -> Builder | None:
    """Whose attestation a version must have: as given, else as MODELDROP_REQUIRE_ATTESTATION or modeldrop.toml says.

    Raises:
        UsageError: it names no repository.
        RecipeError: modeldrop.toml is wrong.
    """
    option, named = SETTINGS["require_attestation"].option, variable("require_attestation")
    if given is not None:
        text, where = given, option
    elif named:
        text, where = named, SETTINGS["require_attestation"].variable
    else:
        file = load_config_file()
        text, where = file.require_attestation, file.what
        if not text:
            return None
    from modeldrop.trust.attestation import parse_builder  # who wants none need not load it

    return parse_builder(text, where)


def home_folder(directory: str | os.PathLike[str] | None = None) -> Path:
    """Where snapshots are kept: ``directory``, else ``MODELDROP_HOME``, else the user's cache.

    Raises:
        DiskError: none is named, and this user has no home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = expand_user(directory or variable("home") or f"{cache}/modeldrop")
    if not folder.is_absolute() and str(folder).startswith("~"):
        raise DiskError(
            "This user has no home folder, and no other place for snapshots is named.",
            "Name a folder that it may write: -d or MODELDROP_HOME; or set HOME.",
        )
    return folder.absolute()


def exporters_folder() -> Path:
    """Where the environments of exporters are made: MODELDROP_EXPORTERS, else beside the user's other caches.

    Raises:
        DiskError: none is named, and this user has no home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = expand_user(variable("exporters") or f"{cache}/modeldrop-exporters")
    if not folder.is_absolute() and str(folder).startswith("~"):
        raise DiskError(
            "This user has no home folder, and no other place for the exporters' environments is named.",
            "Name a folder that it may write: MODELDROP_EXPORTERS; or set HOME.",
        )
    return folder.absolute()


def _segments(url: str) -> list[str]:
    """What stands between the slashes of a URL or a folder, the same for all of its spellings."""
    segments = one_spelling(url).rstrip("/").split("/")
    if url.startswith("https://"):
        segments[2] = segments[2].lower().removesuffix(":443")
    return segments


def _refuse_contradictions(registries: Mapping[str, RegistrySettings]) -> None:
    """Refuse two tables of one URL that say different things of it: none could be chosen.

    Raises:
        FormatError: there are such; it names both.
    """
    names: dict[tuple[str, ...], str] = {}
    for name, settings in registries.items():
        other = names.setdefault(tuple(_segments(settings.url)), name)
        different = [
            key.replace("_", "-")
            for key, one, two in zip(settings._fields, settings, registries[other], strict=True)
            if one != two and key not in {"url", "section"}
        ]
        if different:
            raise FormatError(
                f"[registries.{other}] and [registries.{name}] have the same url, {settings.url}, "
                f"and different settings: {', '.join(different)}",
                "Settings belong to the URL. Keep one of them.",
            )


def _registry(name: str, fields: Fields, folder: str) -> RegistrySettings:
    if not NAME.fullmatch(name):
        raise FormatError("a name has small letters, digits, '.', '_' and '-'", field=fields.path)
    table = fields.child("tags", optional=True)
    tags = {key: table.text(key, limit=256) for key in table.names()}
    if len(tags) > _MAX_TAGS:
        fields.fail(f"has {len(tags)} tags; at most {_MAX_TAGS} are allowed", "tags")
    settings = RegistrySettings(
        url=below(folder, parse_registry(fields.text("url", limit=2048))),
        endpoint=fields.text("endpoint", default="", limit=2048).rstrip("/"),
        region=fields.text("region", default="", limit=64),
        encryption_key=fields.text("encryption-key", default="", limit=2048),
        tags=tags,
        anonymous=fields.boolean("anonymous", default=False),
        encryption=fields.text("encryption", default="", limit=64),
        acl=fields.text("acl", default="", limit=64),
        requester_pays=fields.boolean("requester-pays", default=False),
        site=fields.boolean("site", default=False),
        section=name,
    )
    for key, value, values in (("encryption", settings.encryption, _ENCRYPTIONS), ("acl", settings.acl, _ACLS)):
        if value and value not in values:
            fields.fail(f"must be one of {', '.join(values)}", key)
    if settings.encryption == "AES256" and settings.encryption_key:
        fields.fail("cannot be AES256 beside an encryption-key: that is aws:kms", "encryption")
    for key in _S3_ALONE:
        if key in fields.names() and not settings.url.startswith("s3://"):
            fields.fail("is for s3:// registries", key)
    if settings.endpoint and not settings.endpoint.startswith(("http://", "https://")):
        fields.fail("must begin with https:// (or http://)", "endpoint")
    if "@" in settings.endpoint.partition("://")[2].partition("/")[0]:
        fields.fail("must not hold a user name or password", "endpoint")
    fields.refuse_unknown()
    return settings


def below(folder: str, path: str) -> str:
    """A path that was written relative to ``folder``; URLs, "" and other paths as they are."""
    if not folder or not path or "://" in path or path.startswith(("/", "~")):
        return path
    return str(Path(folder, path))
