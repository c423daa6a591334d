"""Whom a cloud lets take the publisher's and the planner's role from a GitHub workflow, as text to paste.

``$SUBJECT`` is how GitHub's tokens name the repository. In those of repositories that were made or renamed since
2026-07-15, and of others that have asked for it, it holds ids, which nobody can take over: docs/action.md has the
command that prints it. What else is in capitals is for the reader to fill in, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ISSUER = "token.actions.githubusercontent.com"
# Who takes which role, and which runs' tokens are for it.
_RUNS = {"publisher": "ref:refs/heads/main", "planner": "pull_request"}


def aws(partition: str) -> Mapping[str, str]:
    """Trust policies of the roles."""
    return {role: _aws_document(partition, f"$SUBJECT:{runs}") for role, runs in _RUNS.items()}


def google() -> Mapping[str, str]:
    """Commands for a pool whose one provider tells both roles apart, and who is to be granted what."""
    role = (
        "assertion.event_name == 'pull_request' ? 'planner' : assertion.ref == 'refs/heads/main' ? 'publisher' : 'none'"
    )
    pool = f"""\
gcloud iam workload-identity-pools create github --project=$PROJECT --location=global
gcloud iam workload-identity-pools providers create-oidc github --project=$PROJECT --location=global \\
  --workload-identity-pool=github --issuer-uri=https://{_ISSUER} \\
  --attribute-mapping="google.subject=assertion.sub,attribute.role={role}" \\
  --attribute-condition="assertion.repository_id == '$REPOSITORY_ID'"
"""
    members = "principalSet://iam.googleapis.com/projects/$NUMBER/locations/global/workloadIdentityPools/github"
    publisher, planner = (f"PRINCIPAL={members}/attribute.role/{name}" for name in _RUNS)
    return {"publisher": pool + publisher, "planner": f"# In the publisher's pool:\n{planner}"}


def azure() -> Mapping[str, str]:
    """Commands for two managed identities, and who is to be granted what."""
    return {
        role: f"""\
az identity create --name modeldrop-{role} --resource-group $GROUP
az identity federated-credential create --name github --identity-name modeldrop-{role} \\
  --resource-group $GROUP --issuer https://{_ISSUER} \\
  --subject "$SUBJECT:{runs}" --audiences api://AzureADTokenExchange
PRINCIPAL=$(az identity show --name modeldrop-{role} --resource-group $GROUP --query principalId --output tsv)"""
        for role, runs in _RUNS.items()
    }


def _aws_document(partition: str, subject: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:{partition}:iam::$ACCOUNT:oidc-provider/{_ISSUER}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{_ISSUER}:aud": "sts.amazonaws.com", f"{_ISSUER}:sub": subject}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)
