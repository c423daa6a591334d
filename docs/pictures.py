"""The pictures of the pages, as SVG: a terminal run, a report, a model's page, and how a model travels.

All are made from what is in the repository, so that ``make docs`` writes them and ``make lint`` finds drift: the run is
README's own, which a test repeats; report and page are rendered from documents as the tests have them. They follow the
reader's light or dark, and load nothing.
"""

from __future__ import annotations

import re
import tempfile
from html import escape
from pathlib import Path

from modeldrop.export.report import render
from modeldrop.site.pages import Pages
from modeldrop.site.places import FolderPlace
from modeldrop.site.writing import write_site
from modeldrop.storage.write.folder import FolderStore
from tests.format import examples
from tests.helpers.paper_registry import make_paper_registry

ROOT = Path(__file__).resolve().parents[1]
_FOLDER = "docs/images"
_REGISTRY = "s3://acme-models"
_LINE, _GLYPH, _EDGE = 20, 8.1, 18
_MARKS = ((re.compile(r"^\$ .*"), "typed"), (re.compile(r"^\[\d/\d\]"), "step"), (re.compile(r"^current → .*"), "good"))
_TERMINAL_STYLE = """\
text{font:13.5px ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;fill:#c9d1d9;white-space:pre}
.typed{fill:#fff;font-weight:600}.step{fill:#7c9bff}.good{fill:#4cc790}"""
_ROAD = (
    ("recipe", "modeldrop.toml", "source, variants,", "thresholds"),
    ("publish", "CI, or a laptop", "exports, quantizes,", "proves it faithful"),
    ("registry", "your bucket", "v1, v2, v3, …", "never changed"),
    ("current", "one small pointer", "promote, roll back", "by compare-and-swap"),
    ("fetch", "each container", "verified, atomic,", "without torch"),
)
_ROAD_STYLE = """\
:root{--ink:#14181f;--soft:#59616e;--card:#fff;--line:#c8cdd6;--accent:#3559e0}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#98a2b0;--card:#161b22;--line:#3a434f;--accent:#7c9bff}}
text{font:13px system-ui,"Segoe UI",Roboto,"Liberation Sans",sans-serif;fill:var(--soft);text-anchor:middle}
.name{font-size:17px;font-weight:700;fill:var(--ink)}.where{fill:var(--accent)}
rect{fill:var(--card);stroke:var(--line)}path{stroke:var(--soft);fill:none;stroke-width:1.5}"""


def pictures() -> dict[str, str]:
    """Every picture, by its path in the repository."""
    return {
        f"{_FOLDER}/terminal.svg": terminal(first_run((ROOT / "README.md").read_text("utf-8"))),
        f"{_FOLDER}/report.svg": page_picture(render(examples.manifest()), "A build report", 1080, 1010),
        f"{_FOLDER}/model-page.svg": page_picture(model_page(), "A model's page", 1240, 1560),
        f"{_FOLDER}/road.svg": road(),
    }


def first_run(readme: str) -> str:
    """What README's first minutes print."""
    _, _, after = readme.partition("## Five minutes")
    return after.partition("```console\n")[2].partition("```")[0]


def terminal(text: str) -> str:
    """A run as a terminal shows it."""
    lines = text.rstrip().splitlines()
    width = round(max(map(len, lines)) * _GLYPH + 2 * _EDGE)
    height = len(lines) * _LINE + 2 * _EDGE + 14
    shown = []
    for index, line in enumerate(lines):
        spans, rest = "", line
        for pattern, css in _MARKS:
            if found := pattern.match(line):
                spans, rest = f'<tspan class="{css}">{escape(found[0])}</tspan>', line[found.end() :]
        shown.append(
            f'<text x="{_EDGE}" y="{_EDGE + 28 + index * _LINE}" xml:space="preserve">{spans}{escape(rest)}</text>'
        )
    dots = "".join(f'<circle cx="{_EDGE + 4 + index * 16}" cy="16" r="5" fill="#3a434f"/>' for index in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="modeldrop publish in a terminal">\n<style>{_TERMINAL_STYLE}</style>\n'
        f'<rect width="100%" height="100%" rx="10" fill="#0e1116"/>{dots}\n' + "\n".join(shown) + "\n</svg>\n"
    )


def page_picture(page: bytes, label: str, width: int, height: int) -> str:
    """The beginning of a page of HTML; its own style goes with it."""
    text = page.decode()
    # The page's own SVG is not HTML's here, and is inside of another.
    style = text.partition("<style>")[2].partition("</style>")[0] + (
        f"body{{height:{height}px;overflow:hidden}}"
        "foreignObject .soft{font-size:inherit}foreignObject svg .soft{font-size:12px}"
    )
    body = text.partition("<body>")[2].partition("</body>")[0]
    body = body.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}">\n<style><![CDATA[{style}]]></style>\n'
        f'<foreignObject width="{width}" height="{height}"><body xmlns="http://www.w3.org/1999/xhtml">'
        f"{body.strip()}</body></foreignObject>\n</svg>\n"
    )


def model_page() -> bytes:
    """The page of a model with thirty versions."""
    with tempfile.TemporaryDirectory(prefix="modeldrop-docs-") as folder:
        store = FolderStore(str(make_paper_registry(Path(folder, "registry"), 1, 30)))
        place = FolderPlace(Path(folder, "pages"))
        write_site(store, place)
        page = (Path(folder, "pages") / "m/model-000/index.html").read_bytes()
        page = page.replace(store.url.encode(), _REGISTRY.encode()).replace(b"model-000", b"embedder")
        style = next(data for path, data in Pages(_REGISTRY, "").assets().items() if path.endswith(".css"))
    return page.replace(b"<body>", b"<style>" + style + b"</style><body>")


def road() -> str:
    """How a model goes from a recipe to a container."""
    wide, gap, high = 168, 36, 116
    width, drawn = len(_ROAD) * wide + (len(_ROAD) - 1) * gap + 2, []
    for index, (name, where, *what) in enumerate(_ROAD):
        left = index * (wide + gap) + 1
        middle = left + wide // 2
        drawn.append(f'<rect x="{left}" y="1" width="{wide}" height="{high}" rx="10"/>')
        drawn.append(f'<text class="name" x="{middle}" y="32">{name}</text>')
        drawn.append(f'<text class="where" x="{middle}" y="54">{where}</text>')
        drawn += [f'<text x="{middle}" y="{80 + row * 18}">{line}</text>' for row, line in enumerate(what)]
        if index:
            drawn.append(f'<path d="M{left - gap + 6} {high // 2}h{gap - 14}m-6 -5l6 5l-6 5"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {high + 2}" width="{width}" height="{high + 2}" '
        f'role="img" aria-label="recipe, publish, registry, current, fetch: the way into a container">\n'
        f"<style>{_ROAD_STYLE}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )
