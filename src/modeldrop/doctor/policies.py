"""Least-privilege policies of one registry in each cloud, as text to paste.

There are those of publisher, planner and fetcher, what ``prune`` and ``doctor`` need besides the publisher's, and what
keeps the publisher from setting the registry's own policy (``modeldrop policy``). What is in capitals (``$PROJECT``,
``$PRINCIPAL``) is for the reader to fill in.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.format import keys
from modeldrop.storage.s3_address import address_here, partition_of
from modeldrop.storage.urls import access_point, express_zone, parse_bucket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.urls import Bucket

_SETTINGS = f"{keys.POLICY_KEY.partition('/')[0]}/"
_CONDITION_FILE = "modeldrop-condition.json"
_AZURE_ROLE = "modeldrop publisher"
_KEY_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class AccessPolicies:
    """What to grant, as text.

    Attributes:
        publisher: ``publish``, ``promote``, ``rollback``, ``mirror``.
        fetcher: ``fetch``, ``run``, ``watch`` in containers. A planner (``plan``, the action in pull requests), which
            reads only, needs the same.
        prune: besides the publisher's, for ``prune``.
        doctor: besides the publisher's, for all that ``doctor`` looks at; it says what it could not look at.
        policy_guard: keeps the publisher from writing what ``modeldrop policy`` has set, so that it holds for it.
    """

    publisher: str
    fetcher: str
    prune: str
    doctor: str
    policy_guard: str = ""

    def to_json(self) -> Mapping[str, str]:
        """The texts by who needs them."""
        return {
            "publisher": self.publisher,
            "planner": self.fetcher,
            "fetcher": self.fetcher,
            "prune": self.prune,
            "doctor": self.doctor,
            "policy": self.policy_guard,
        }


def policies_for(settings: RegistrySettings) -> AccessPolicies:
    """The policies of a registry: for its prefix, encryption key, tags and ACL.

    Raises:
        UsageError: no bucket can have that name.
        RegistryError: an S3 bucket's settings contradict each other.
    """
    bucket = parse_bucket(settings.url)
    if bucket.scheme == "s3":
        return aws(bucket, settings, address_here(bucket, settings)[0].region)
    return google(bucket, settings.encryption_key) if bucket.scheme == "gs" else azure(bucket, tags=bool(settings.tags))


def aws(bucket: Bucket, settings: RegistrySettings, region: str) -> AccessPolicies:
    """IAM policies for a registry on S3.

    Listing is limited to the registry's prefix. It is part of the fetcher's policy because S3 otherwise answers
    403 for an object that is not there; the fetcher never lists. A directory bucket has one right alone, for sessions.
    """
    partition = partition_of(region).name
    if express_zone(bucket.name):
        return _express(f"arn:{partition}:s3express:{region}:*:bucket/{bucket.name}")
    point = access_point(bucket.name)
    everything = bucket.name if point else f"arn:{partition}:s3:::{bucket.name}"
    objects = f"{everything}/{'object/' if point else ''}{bucket.prefix}*"
    listing = _allow(["s3:ListBucket"], everything)
    if bucket.prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": f"{bucket.prefix}*"}}
    writing = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    if settings.acl:
        writing.append("s3:PutObjectAcl")
    if settings.tags:
        writing.append("s3:PutObjectTagging")
    publisher = [_allow(writing, objects), listing]
    fetcher = [_allow(["s3:GetObject"], objects), listing]
    if settings.encryption_key:
        publisher.append(_aws_key(["kms:GenerateDataKey", "kms:Decrypt"], settings.encryption_key, partition))
        fetcher.append(_aws_key(["kms:Decrypt"], settings.encryption_key, partition))
    prune = [_allow(["s3:DeleteObject"], objects), _allow(["s3:ListBucketMultipartUploads"], everything)]
    doctor = [
        _allow(["s3:DeleteObject"], objects),
        _allow(
            [
                "s3:GetBucketAcl",
                "s3:GetBucketPolicyStatus",
                "s3:GetBucketPublicAccessBlock",
                "s3:GetBucketVersioning",
                "s3:GetLifecycleConfiguration",
            ],
            everything,
        ),
    ]
    settings_folder = f"{objects.removesuffix('*')}{_SETTINGS}*"
    policy_guard = [_allow(["s3:PutObject", "s3:DeleteObject"], settings_folder) | {"Effect": "Deny"}]
    return AccessPolicies(
        publisher=_aws_document(publisher),
        fetcher=_aws_document(fetcher),
        prune=_aws_document(prune),
        doctor=_aws_document(doctor),
        policy_guard=_aws_document(policy_guard),
    )


def _express(bucket: str) -> AccessPolicies:
    session = _allow(["s3express:CreateSession"], bucket)
    reading = session | {"Condition": {"StringEquals": {"s3express:SessionMode": "ReadOnly"}}}
    publisher = _aws_document([session])
    policy_guard = "# In a directory bucket whoever may publish may set it: sessions know no prefixes."
    return AccessPolicies(
        publisher=publisher,
        fetcher=_aws_document([reading]),
        prune=publisher,
        doctor=publisher,
        policy_guard=policy_guard,
    )


def google(bucket: Bucket, encryption_key: str = "") -> AccessPolicies:
    """Commands that grant roles on a bucket of GCS, limited to the registry's prefix.

    Listing is a right on the bucket, so whoever has it sees the names of all objects in it. GCS asks for
    storage.objects.delete to replace an object: no publisher can do without it.
    """

    def grant(role: str, *, conditional: bool = True) -> str:
        lines = [
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket.name}",
            f"--member=$PRINCIPAL --role={role}",
        ]
        if conditional and bucket.prefix:
            lines.append(f"--condition-from-file={_CONDITION_FILE}")
        elif bucket.prefix:
            lines.append("--condition=None")
        return " \\\n  ".join(lines)

    condition = expression = ""
    if bucket.prefix:
        expression = (
            'resource.type == "storage.googleapis.com/Bucket" || '
            f'resource.name.startsWith("projects/_/buckets/{bucket.name}/objects/{bucket.prefix}")'
        )
        document = json.dumps({"title": f"modeldrop-{bucket.name}"[:100], "expression": expression}, indent=2)
        condition = f"cat > {_CONDITION_FILE} <<'END'\n{document}\nEND\n"
    objects = f"projects/_/buckets/{bucket.name}/objects/{bucket.prefix}"
    inside = f"({expression}) && " if bucket.prefix else ""
    but = f'{inside}!resource.name.startsWith("{objects}{_SETTINGS}")'
    without = json.dumps({"title": f"modeldrop-{bucket.name}"[:100], "expression": but}, indent=2)
    publisher = condition + grant("roles/storage.objectUser")
    if encryption_key:
        publisher += (
            "\n# The key is used by Cloud Storage itself, not by the publisher:\n"
            f"gcloud storage service-agent --project=$PROJECT --authorize-cmek={encryption_key}"
        )
    return AccessPolicies(
        publisher=publisher,
        fetcher=condition + grant("roles/storage.objectViewer"),
        prune="# Nothing more: roles/storage.objectUser includes deletion.",
        doctor="# storage.buckets.get and storage.buckets.getIamPolicy:\n"
        + grant("roles/storage.legacyBucketReader", conditional=False)
        + "\n"
        + grant("roles/iam.securityReviewer", conditional=False),
        policy_guard="# In place of the publisher's condition, or as one:\n"
        f"cat > {_CONDITION_FILE} <<'END'\n{without}\nEND\n"
        + grant("roles/storage.objectUser", conditional=False).removesuffix(" \\\n  --condition=None")
        + f" \\\n  --condition-from-file={_CONDITION_FILE}",
    )


def azure(bucket: Bucket, *, tags: bool = False) -> AccessPolicies:
    """Commands that grant roles on a container; data roles have no narrower scope without conditions.

    The publisher's role is one of its own because the narrowest that Azure brings (Storage Blob Data Contributor)
    also deletes, and sets no tags.
    """
    scope = (
        "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.Storage"
        f"/storageAccounts/{bucket.account}/blobServices/default/containers/{bucket.name}"
    )
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
    actions = [f"{blobs}/read", f"{blobs}/write", f"{blobs}/add/action"]
    if tags:
        actions.append(f"{blobs}/tags/write")
    role = json.dumps(
        {
            "Name": _AZURE_ROLE,
            "Description": "Publishes models with modeldrop: reads, lists and writes blobs, deletes none.",
            "Actions": [],
            "DataActions": actions,
            "AssignableScopes": ["/subscriptions/$SUBSCRIPTION"],
        },
        indent=2,
    )

    writing = " AND ".join(f"!(ActionMatches{{'{blobs}/{action}'}})" for action in ("write", "add/action"))
    condition = f"(({writing}) OR (@Resource[{blobs}:path] StringNotLike '{bucket.prefix}{_SETTINGS}*'))"

    def grant(name: str) -> str:
        return f'az role assignment create --assignee "$PRINCIPAL" \\\n  --role "{name}" \\\n  --scope "{scope}"'

    return AccessPolicies(
        publisher=f'az role definition create --role-definition "$(cat <<END\n{role}\nEND\n)"\n{grant(_AZURE_ROLE)}',
        fetcher=grant("Storage Blob Data Reader"),
        prune=f"# Besides reading and writing it deletes:\n{grant('Storage Blob Data Contributor')}",
        doctor=f"# It deletes the blob it tries with:\n{grant('Storage Blob Data Contributor')}\n"
        "# Lifecycle rules are a matter of the storage account: Reader on the account, and az, show them.",
        policy_guard=f"# In place of the publisher's assignment:\n{grant(_AZURE_ROLE)} \\\n"
        f"  --condition-version 2.0 --condition \"$(cat <<'END'\n{condition}\nEND\n)\"",
    )


def _allow(actions: Sequence[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def _aws_document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)


def _aws_key(actions: Sequence[str], key: str, partition: str) -> dict[str, Any]:
    """The statement for a KMS key, which may be given as its ARN, id, alias or the alias' ARN."""
    alias = key.rpartition(":")[2]
    if alias.startswith("alias/"):
        statement = _allow(actions, f"arn:{partition}:kms:*:*:key/*")
        return statement | {"Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}}
    return _allow(actions, f"arn:{partition}:kms:*:*:key/{key}" if _KEY_ID.fullmatch(key) else key)
