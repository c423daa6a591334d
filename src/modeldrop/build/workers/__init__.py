"""Programs that run in processes of their own, so that torch never meets credentials.

Each reads one JSON request, writes one JSON result, and tells its progress in lines of JSON.
"""

import sys

# transformers imports scikit-learn where it is installed, for a way of generating text that is not used here,
# and that takes a second. For these processes it is not installed.
sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]
