import pytest

from modeldrop.storage.errors import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Give the job `permissions: id-token: write`.", "Give the job `permissions: id-token: write`."),
        ("id-token: write, and so on", "id-token: write, and so on"),
        ("id-token: writesecret", "id-token: [redacted]"),
        ("id-token: eyJhbGciOi", "id-token: [redacted]"),
        ("token: write", "token: [redacted]"),
        ("InvalidIdentityToken: No", "InvalidIdentityToken: No"),
    ],
)
def test_a_permission_is_no_secret(text: str, shown: str) -> None:
    assert redact(text) == shown
