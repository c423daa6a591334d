"""Programs that run in processes of their own, so that torch never meets credentials.

Each reads one JSON request, writes one JSON result, and tells its progress in lines of JSON.
"""

import sys

# transformers imports these two where they are installed, for a way of generating text and for the losses of
# object detectors. Nothing here uses either, and they take a second and a half: here they are not installed.
for _name in ("scipy", "sklearn"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
