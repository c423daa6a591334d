"""How a repository's workflows on GitHub sign in to a cloud, without keys: a script to set that up, once.

There are two roles. The publisher is lent to the runs of the default branch alone, the planner, which only reads, to
those of pull requests. Each cloud tells them apart by the subject of the token that GitHub vouches with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.doctor.policies import policies_for
from modeldrop.storage.s3_address import address_here, partition_of
from modeldrop.storage.urls import parse_bucket

if TYPE_CHECKING:
    from modeldrop.config import RegistrySettings

_ISSUER = "token.actions.githubusercontent.com"


@dataclass(frozen=True, slots=True)
class GitHubSubjects:
    """Whom GitHub vouches for.

    Attributes:
        prefix: how the subjects of a repository's tokens begin: ``repo:acme@1/models@2``; of repositories made before
            July 2026, and not renamed since, ``repo:acme/models``. Or a variable of the script, ``$SUBJECT``.
        branch: the default branch.
    """

    prefix: str
    branch: str

    @property
    def publisher(self) -> str:
        """Of the runs of the default branch."""
        return f"{self.prefix}:ref:refs/heads/{self.branch}"

    @property
    def planner(self) -> str:
        """Of the runs of pull requests."""
        return f"{self.prefix}:pull_request"


def sign_in_script(settings: RegistrySettings, subjects: GitHubSubjects) -> str:
    """Shell commands that make both roles, and tell the repository's workflows their names.

    What is in capitals (``$PROJECT``, ``$GROUP``) is for the reader to fill in.

    Raises:
        UsageError: no bucket can have that name.
        RegistryError: an S3 bucket's settings contradict each other.
    """
    bucket = parse_bucket(settings.url)
    policies = policies_for(settings)
    roles = (("publisher", subjects.publisher, policies.publisher), ("planner", subjects.planner, policies.fetcher))
    if bucket.scheme == "s3":
        partition = partition_of(address_here(bucket, settings)[0].region).name
        head = (
            "# Once for each AWS account; that it exists already is no fault.\n"
            f"aws iam create-open-id-connect-provider --url https://{_ISSUER} --client-id-list sts.amazonaws.com\n"
            "ACCOUNT=$(aws sts get-caller-identity --query Account --output text)"
        )
        parts = [_aws_role(partition, *role) for role in roles]
    elif bucket.scheme == "gs":
        head = _google_pool(subjects)
        parts = [
            f'{_lent(name, subject)}\nPRINCIPAL="$POOL/subject/{subject}"\n{text}' for name, subject, text in roles
        ]
    else:
        head = 'gh variable set AZURE_TENANT_ID --body "$(az account show --query tenantId --output tsv)"'
        parts = [_azure_identity(*role) for role in roles]
    return "\n\n".join((head, *parts))


def _lent(name: str, subject: str) -> str:
    return f"# modeldrop-{name}, for {subject}"


def _aws_role(partition: str, name: str, subject: str, policy: str) -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:{partition}:iam::$ACCOUNT:oidc-provider/{_ISSUER}"},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringEquals": {f"{_ISSUER}:aud": "sts.amazonaws.com", f"{_ISSUER}:sub": subject},
                },
            }
        ],
    }
    role = f"modeldrop-{name}"
    return "\n".join(
        (
            _lent(name, subject),
            f"cat > {role}-trust.json <<END\n{json.dumps(trust, indent=2)}\nEND",
            f"cat > {role}.json <<'END'\n{policy}\nEND",
            f"aws iam create-role --role-name {role} --assume-role-policy-document file://{role}-trust.json",
            f"aws iam put-role-policy --role-name {role} --policy-name modeldrop --policy-document file://{role}.json",
            f'gh variable set MODELDROP_{name.upper()} --body "arn:{partition}:iam::$ACCOUNT:role/{role}"',
        )
    )


def _google_pool(subjects: GitHubSubjects) -> str:
    pool = "projects/$NUMBER/locations/global/workloadIdentityPools/github"
    return "\n".join(
        (
            "# Once for each project; that they exist already is no fault.",
            "gcloud iam workload-identity-pools create github --project=$PROJECT --location=global",
            "gcloud iam workload-identity-pools providers create-oidc github --project=$PROJECT --location=global \\",
            f"  --workload-identity-pool=github --issuer-uri=https://{_ISSUER} \\",
            "  --attribute-mapping=google.subject=assertion.sub \\",
            f"  --attribute-condition=\"assertion.sub.startsWith('{subjects.prefix}:')\"",
            "NUMBER=$(gcloud projects describe $PROJECT --format='value(projectNumber)')",
            f"POOL=principal://iam.googleapis.com/{pool}",
            f"gh variable set MODELDROP_PROVIDER --body {pool}/providers/github",
        )
    )


def _azure_identity(name: str, subject: str, commands: str) -> str:
    identity = f"--resource-group $GROUP --name modeldrop-{name}"
    return "\n".join(
        (
            _lent(name, subject),
            f"az identity create {identity}",
            "az identity federated-credential create --name github \\",
            f"  --resource-group $GROUP --identity-name modeldrop-{name} --audiences api://AzureADTokenExchange \\",
            f'  --issuer https://{_ISSUER} --subject "{subject}"',
            f"PRINCIPAL=$(az identity show {identity} --query principalId --output tsv)",
            commands,
            f"CLIENT=$(az identity show {identity} --query clientId --output tsv)",
            f'gh variable set MODELDROP_{name.upper()} --body "$CLIENT"',
        )
    )
