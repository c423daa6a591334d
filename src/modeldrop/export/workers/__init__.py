"""Programs that run in processes of their own, so that torch never meets credentials.

Each is started by ``worker_process`` with one request, and gives one answer: see ``messages``. ``protocol`` is what
they share.
"""

import sys

# transformers imports these two where they are installed, for a way of generating text and for the losses of
# object detectors. Nothing here uses either, and they take a second and a half: in a worker they are not installed.
# ``generic`` alone converts what scikit-learn has made.
if sys.argv[:1] == ["-m"] and f"{__name__}.generic" not in sys.orig_argv:  # so it is while ``python -m`` looks for it
    for _name in ("scipy", "sklearn"):
        sys.modules.setdefault(_name, None)  # type: ignore[arg-type]
