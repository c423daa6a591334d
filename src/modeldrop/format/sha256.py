"""SHA-256 of documents. ``hashlib`` loads OpenSSL, which takes longer than to read one.

``random`` of the standard library avoids it in the same way. Files of models are hashed by ``hashlib``, which is faster
by the gigabyte.
"""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    except ImportError:  # one that was built without
        from hashlib import sha256


def hex_digest(data: bytes) -> str:
    """Its SHA-256, 64 lower-case hexadecimal digits."""
    return str(sha256(data).hexdigest())
