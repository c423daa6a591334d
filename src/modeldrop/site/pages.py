"""The pages themselves, as bytes: what the templates show, and the files that pages load."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from modeldrop._version import __version__
from modeldrop.errors import MissingExtraError
from modeldrop.export import report
from modeldrop.format import keys
from modeldrop.format.diff import differences
from modeldrop.format.names import hex_digest
from modeldrop.site.document import CHUNK, ModelRow, VersionEntry, write_model_rows
from modeldrop.site.reading import KnownChannel, KnownVersion
from modeldrop.site.series import colours, time_line, version_charts

if TYPE_CHECKING:
    from jinja2 import Environment

REGISTRY_PAGE, COMPARE_PAGE = "index.html", "compare.html"
_GITHUB = "https://github.com/"
_BESIDE = (("The whole report", "report.html"), ("Bill of materials", "bom.cdx.json"), ("Manifest", "manifest.json"))
_TOP = "../../"


def model_page(model: str) -> str:
    """Path of a model's page."""
    return f"m/{model}/index.html"


def older_page(model: str, chunk: int) -> str:
    """Path of the page of one chunk of older versions."""
    return f"m/{model}/versions-{chunk}.html"


def version_page(model: str, number: int) -> str:
    """Path of a version's page."""
    return f"m/{model}/v{number}.html"


def comparison_page(model: str, before: int, after: int) -> str:
    """Path of the comparison of two versions, with its query."""
    return f"{COMPARE_PAGE}?model={model}&a={before}&b={after}"


def data_file(model: str, chunk: int) -> str:
    """Path of what is known of one chunk of versions."""
    return f"m/{model}/data-{chunk}.js"


def newest_chunks(chunks: int) -> range:
    """The chunks that are on the model's page itself: the last two, so that it never begins nearly empty."""
    return range(max(1, chunks - 1), chunks + 1)


class Pages:
    """Renders the pages of one registry.

    Args:
        url: the registry.
        beside: from a page at the top, the way to the models' files; "" where those are not beside the pages.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """

    def __init__(self, url: str, beside: str) -> None:
        self._url = url
        self._beside = beside
        self._environment = _environment()

    def assets(self, unless_in: bytes = b"") -> dict[str, bytes]:
        """What all pages load, by path, and the page of comparisons; none if the page ``unless_in`` loads them."""
        own = _assets()
        if all(name.encode() in unless_in for name in own):
            return {}
        return {**own, COMPARE_PAGE: self._render("compare.html", top="")}

    def registry(self, rows: Iterable[ModelRow]) -> bytes:
        """The registry's page."""
        ordered = sorted(rows, key=lambda row: row.name)
        from markupsafe import Markup  # comes with Jinja2

        # JSON in which no "<" is left, for nobody but us and JSON.parse.
        return self._render("registry.html", top="", rows=ordered, remembered=Markup(write_model_rows(ordered)))  # noqa: S704

    def model(self, row: ModelRow, channels: Sequence[KnownChannel], entries: Sequence[VersionEntry]) -> bytes:
        """A model's page, with its newest versions from old to new."""
        where = shlex.quote(f"{self._url}/{row.name}")
        return self._render(
            "model.html",
            top=_TOP,
            model=row.name,
            row=row,
            channels=channels,
            line=time_line(channels),
            charts=version_charts(entries, row.task),
            colours=colours(entries),
            entries=entries[::-1],
            names=_names(channels),
            older=[chunk for chunk in range(len(row.chunks), 0, -1) if chunk not in newest_chunks(len(row.chunks))],
            chunk=CHUNK,
            commands={name: f"modeldrop {name} {where}" for name in ("fetch", "rollback", "history")},
        )

    def older(self, model: str, chunk: int, channels: Sequence[KnownChannel], entries: Sequence[VersionEntry]) -> bytes:
        """The page of one chunk of older versions, from old to new."""
        return self._render(
            "older.html",
            top=_TOP,
            model=model,
            first=(chunk - 1) * CHUNK + 1,
            last=chunk * CHUNK,
            entries=entries[::-1],
            names=_names(channels),
        )

    def version(self, model: str, known: KnownVersion, channels: Iterable[str], previous: VersionEntry | None) -> bytes:
        """A version's page; ``previous`` is the one before that can be fetched, None if there is none."""
        entry, manifest = known.entry, known.manifest
        shown: dict[str, Any] = {"manifest": None}
        if manifest is not None:
            shown = report.context(manifest)
            if previous is not None and previous.facts is not None and entry.facts is not None:
                shown |= {"previous": previous, "changes": differences(previous.facts, entry.facts)}
                shown["comparison"] = _TOP + comparison_page(model, previous.number, entry.number)
            shown["attested"] = _attestation(manifest.provenance.repository, keys.manifest(model, entry.number))
            shown["commands"] = self._commands(model, entry.number, previous)
            shown["links"] = self._links(model, known)
        shown.setdefault("previous", None)
        return self._render("version.html", **shown, top=_TOP, model=model, entry=entry, channels=list(channels))

    def _commands(self, model: str, number: int, previous: VersionEntry | None) -> list[tuple[str, str]]:
        where = f"{self._url}/{model}"
        this = shlex.quote(f"{where}@v{number}")
        commands = [
            ("Fetch it", f"modeldrop fetch {this}"),
            ("Point current at it", f"modeldrop promote {this}"),
            ("Go back from it, where current names it", f"modeldrop rollback {shlex.quote(where)} --from v{number}"),
            ("Its bill of materials", f"modeldrop bom {this}"),
        ]
        if previous is not None:
            before = shlex.quote(f"{where}@v{previous.number}")
            commands.append((f"Compare it with v{previous.number}", f"modeldrop diff {before} v{number}"))
        return commands

    def _links(self, model: str, known: KnownVersion) -> list[tuple[str, str]]:
        if not self._beside:
            return []
        folder = f"{_TOP}{self._beside}{quote(keys.folder(model, known.entry.number))}"
        return [(title, f"{folder}/{name}") for title, name in _BESIDE if name in known.objects]

    def _render(self, template: str, **shown: Any) -> bytes:
        style, script = _assets()
        page: str = self._environment.get_template(template).render(
            **shown, style=style, script=script, registry=self._url, release=__version__
        )
        return page.encode()


def _names(channels: Iterable[KnownChannel]) -> dict[int, list[str]]:
    """The channels that name each version."""
    names: dict[int, list[str]] = {}
    for known in channels:
        names.setdefault(known.channel.version, []).append(known.name)
    return names


def _attestation(repository: str, manifest: str) -> str:
    """The command that verifies an attestation of GitHub; "" where none can be there."""
    if not repository.startswith(_GITHUB):
        return ""
    return f"gh attestation verify {shlex.quote(manifest)} --repo {shlex.quote(repository.removeprefix(_GITHUB))}"


def _named(name: str, kind: str, data: bytes) -> str:
    """A file's name with a digest: pages of an earlier release go on with the style that they were made for."""
    return f"{name}.{hex_digest(data)[:8]}.{kind}"


@functools.cache
def _assets() -> Mapping[str, bytes]:
    """The style and the script, by their names."""
    own, shared = files(__package__) / "templates", files(report.__name__) / "templates"
    style = (shared / "style.css").read_bytes() + (own / "site.css").read_bytes()
    script = (own / "site.js").read_bytes()
    return {_named("style", "css", style): style, _named("site", "js", script): script}


@functools.cache
def _environment() -> Environment:
    try:
        return report.environment(__package__)
    except ImportError as error:
        raise MissingExtraError(
            "The registry's pages need the package Jinja2, which is not installed here.",
            "pip install 'modeldrop[site]'",
        ) from error
