"""What is missing where nobody is signed in: as far as a run of GitHub Actions can know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modeldrop.action.event import Event
from modeldrop.errors import ModeldropError, RegistryError

_LOGINS = {
    "s3": "aws-actions/configure-aws-credentials",
    "gcs": "google-github-actions/auth",
    "azure": "azure/login",
}
_NOBODY = "no credentials"


def explain_sign_in(
    error: ModeldropError, event: Event, environment: Mapping[str, str], parts: Sequence[str]
) -> ModeldropError:
    """The same error, saying which permission or step is missing, if that is why a registry refuses."""
    if not isinstance(error, RegistryError) or not any(part in _LOGINS for part in parts):
        return error
    if event.without_secrets:
        who = "from a fork" if event.fork else "of Dependabot"
        error.hint = (
            f"This is a pull request {who}: GitHub gives it neither secrets nor `id-token: write`, so it cannot sign "
            "in. Leave this step out there (if: github.event.pull_request.head.repo.fork != true), or let it build "
            "against a folder (registry: ./models)."
        )
    elif _NOBODY in error.message:
        logins = " and ".join(_LOGINS[part] for part in parts if part in _LOGINS)
        if "ACTIONS_ID_TOKEN_REQUEST_URL" in environment:
            error.hint = f"The job may sign in (`id-token: write`), and no step before this one did: add {logins}."
        else:
            error.hint = f"Give the job `permissions: id-token: write`, and let {logins} run before this step."
    return error
