"""Text that would be markup, and what a reader sees of escaped text."""

import re
from html import unescape

EVIL = "| a |\n# head <img src=x onerror=alert(1)> [x](https://evil.example) @acme `</details>` &lt; ![i](y)"


def plain(markdown: str) -> str:
    """What a reader sees of escaped text."""
    return unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown))
