"""References: ``REGISTRY/MODEL``, ``…@v3``, ``…@staging``, ``…@v3@sha256:<manifest digest>``."""

from __future__ import annotations

from modeldrop.errors import UsageError
from modeldrop.format.names import DEFAULT_CHANNEL, DIGEST, VERSION, check_channel, check_model, parse_version
from modeldrop.util.named_tuples import NamedTuple

SCHEMES = ("s3", "gs", "az", "file", "https")
_FOLDER_STARTS = ("/", "./", "../", "~/")
_EXAMPLE = "Write REGISTRY/MODEL, such as s3://acme-models/embedder, ./models/embedder@v3 or /srv/models/embedder."


class Reference(NamedTuple):
    """A model in a registry, and which version of it.

    Attributes:
        registry: URL or folder, without a slash at its end; "" for the default registry.
        model: the model's name.
        channel: the channel to follow; None when a version is pinned.
        version: the pinned version's number; None when a channel is followed.
        digest: the manifest digest that must be met (``sha256:…``), or None.
    """

    registry: str
    model: str
    channel: str | None = DEFAULT_CHANNEL
    version: int | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """The text that parses to this reference again."""
        text = f"{self.registry}/{self.model}" if self.registry else self.model
        if self.version is not None:
            text += f"@v{self.version}"
        elif self.channel is not None and self.channel != DEFAULT_CHANNEL:
            text += f"@{self.channel}"
        if self.digest is not None:
            text += f"@{self.digest}"
        return text


def parse_registry(text: str) -> str:
    """Return a registry's URL or folder in its one spelling.

    Raises:
        UsageError: for none at all, an unknown scheme, an empty name, or a folder that could be mistaken for a model.
    """
    if not text:
        raise UsageError(
            "No registry is named.",
            "Write it before the model (./models/embedder), or set MODELDROP_REGISTRY to its URL or folder.",
        )
    if "\0" in text or "\n" in text:
        raise UsageError("A registry cannot contain NUL or line breaks.")
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme not in SCHEMES:
            raise UsageError(
                f"{scheme[:40]!r} is not a scheme of a registry.",
                "Registries are s3://, gs://, az://, https:// (read-only) or a folder.",
            )
        if scheme == "file":
            if not rest.startswith("/"):
                raise UsageError("A file:// registry needs an absolute path.", "Write file:///srv/models.")
            return rest.rstrip("/") or "/"
        if not rest.strip("/"):
            raise UsageError(f"{text[:80]!r} names no bucket.", _EXAMPLE)
        return f"{scheme}://{rest.strip('/')}"
    if text in {".", "..", "~"}:
        return text
    if not text.startswith(_FOLDER_STARTS):
        raise UsageError(
            f"{text[:80]!r} is not a registry.",
            f"A folder is written with its start: ./{text[:80]} or /{text[:80]}.",
        )
    return text.rstrip("/") or "/"


def parse_reference(text: str, default_registry: str = "") -> Reference:
    """Parse a reference; a bare model name lives in ``default_registry``.

    Raises:
        UsageError: for anything that cannot be a reference, naming the part that is wrong.
    """
    head, slash, tail = text.rpartition("/")
    model, *selectors = tail.split("@")
    if not text or not model or head.endswith(":/"):
        raise UsageError(f"{text[:80]!r} is not a reference: it names no model.", _EXAMPLE)
    registry = parse_registry(f"{head}/" if head in {"", "file://"} else head) if slash else default_registry
    check_model(model)
    channel: str | None = DEFAULT_CHANNEL
    version = digest = None
    if selectors and (selectors[-1].startswith("sha256:") or len(selectors) > 1):
        digest = selectors.pop()
        if not DIGEST.fullmatch(digest):
            raise UsageError(
                f"{digest[:80]!r} is not a manifest digest.", "Digests are sha256: and 64 hexadecimal digits."
            )
    if len(selectors) > 1:
        raise UsageError(f"{text[:120]!r} has too many '@'.", "At most @VERSION@sha256:DIGEST may follow a model.")
    if selectors:
        if VERSION.fullmatch(selectors[0]):
            version, channel = parse_version(selectors[0]), None
        else:
            channel = check_channel(selectors[0])
    return Reference(registry=registry, model=model, channel=channel, version=version, digest=digest)
