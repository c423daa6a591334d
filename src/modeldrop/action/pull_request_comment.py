"""One comment on a pull request for each model, kept up to date."""

from __future__ import annotations

from modeldrop.action.event import WorkflowEvent
from modeldrop.util.github_api import GitHubApi, GitHubError

_MAX_BODY = 65_000  # GitHub takes 65536 characters
_CUT = "\n\n*Cut here: GitHub takes no longer comment. The job summary has all of it.*"
_DENIED = (401, 403, 404)


def keep_comment(api: GitHubApi, event: WorkflowEvent, model: str, markdown: str) -> str:
    """Write the comment of a model, over the one that an earlier run has written; return its address.

    Args:
        api: the API of the repository, with the job's own token.
        event: a run of a pull request.
        model: the model's name, which the comment is found again by.
        markdown: what it says.

    Raises:
        GitHubError: it could not be written; the message says which permission lacks, if one does.
    """
    if not event.pull_request:
        raise GitHubError("GitHub does not tell the number of the pull request that the run is of.")
    mark = f"<!-- modeldrop: {model} -->"
    room = _MAX_BODY - len(mark)
    body = f"{mark}\n{markdown if len(markdown) <= room else markdown[: room - len(_CUT)] + _CUT}"
    issue = f"/issues/{event.pull_request}/comments"
    try:
        # Only what the job's own token has written: a person's comment may begin with anything.
        own = [f"/issues/comments/{int(one['id'])}" for one in api.pages(issue) if _is_own(one, mark)]
        written = api.send("PATCH", own[0], {"body": body}) if own else api.send("POST", issue, {"body": body})
        for path in own[1:]:  # of two runs that found none, and each wrote one
            api.delete(path)
    except GitHubError as error:
        if error.status in _DENIED:
            error.hint = (
                "GitHub gives the runs of a fork's or Dependabot's pull request no right to write."
                if event.without_secrets
                else "Give the job `permissions: pull-requests: write`, or leave out comment: true."
            )
        raise
    return str(written["html_url"])


def _is_own(comment: object, mark: str) -> bool:
    if not isinstance(comment, dict) or not str(comment.get("body", "")).startswith(mark):
        return False
    user = comment.get("user")
    return isinstance(user, dict) and user.get("type") == "Bot" and user.get("login") == "github-actions[bot]"
