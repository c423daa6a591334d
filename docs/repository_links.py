"""What the site needs beyond the pages: links that leave docs/ lead to the repository.

The pages are read on GitHub too, where ``../examples/service`` is a folder. On the site it is nothing, so that MkDocs,
being strict, would refuse it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_RELATIVE = re.compile(r"\]\((?P<path>\.\./[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """MkDocs calls this for each page."""
    return to_repository(markdown, page.file.src_uri, (config.repo_url or "").rstrip("/"))


def to_repository(markdown: str, page: str, repository: str) -> str:
    """``markdown`` with absolute links for what is in the repository and not on the site.

    Args:
        markdown: the page's text.
        page: its path below docs/.
        repository: the repository's URL.

    Raises:
        FileNotFoundError: a link to a file that is not in the repository.
    """

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), match["path"]))
        if path.startswith("docs/"):
            return match[0]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"docs/{page} links to {path}, which does not exist")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({repository}/{kind}/main/{path}{match['anchor'] or ''})"

    return _RELATIVE.sub(link, markdown)
