"""Push a version to a container registry, for clusters that mount images: as an image, a ModelPack artifact, or both.

modeldrop export s3://acme-models/embedder oci://registry.example.com/models/embedder --variant int8
modeldrop export s3://acme-models/embedder@v3 oci://registry.example.com/models/embedder:v3 --variant int8
modeldrop export ./models/embedder oci:./layout:v3 --format image

The version is fetched and verified first, as by fetch. The same version has the same digests, whoever exports it, and
to export it again changes nothing. TAG is by default the version and the variant, such as v3-int8; where both are
pushed, it names the image, and TAG-modelpack the artifact. The image has the files in /models, for image volumes of
Kubernetes and for KServe. Credentials are those of docker login or podman login (REGISTRY_AUTH_FILE).
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from modeldrop.commands.arguments import (
    add_json,
    add_no_delta,
    add_require_attestation,
    print_json,
    reference_argument,
)
from modeldrop.config import setting
from modeldrop.errors import DiskError, UsageError, VariantError
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.options import AUTO, FAIL, Options, time_limit
from modeldrop.fetcher.resolve import Resolver
from modeldrop.format.manifest import parse_manifest
from modeldrop.oci.client import Client
from modeldrop.oci.destination import RegistryDestination, check_image_name, check_tag, parse_destination
from modeldrop.oci.documents import ARCHITECTURES
from modeldrop.oci.export import BOTH, FORMATS, IMAGE, MODELPACK, plan_pushes, push, tags_of
from modeldrop.oci.layout_target import LayoutTarget
from modeldrop.oci.registry_target import RegistryTarget
from modeldrop.util.files import expand_user
from modeldrop.util.progress import Steps
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from modeldrop.fetcher.snapshot import Snapshot
    from modeldrop.format.reference import Reference
    from modeldrop.oci.destination import LayoutDestination
    from modeldrop.oci.export import PlannedPush, PushResult
    from modeldrop.oci.targets import Target

_KINDS = {IMAGE: f"image for {', '.join(f'linux/{name}' for name in ARCHITECTURES)}", MODELPACK: "ModelPack artifact"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="what to export: REGISTRY/MODEL[@VERSION|@CHANNEL]")
    add("destination", metavar="DESTINATION", help="oci://HOST/NAME[:TAG], or oci:FOLDER[:TAG] for an OCI layout")
    add("--variant", help="the variant (or MODELDROP_VARIANT); needed where the version has several")
    add(
        "--for",
        dest="consumer",
        default="",
        metavar="PROGRAM",
        help="put the graphs where this program looks, as fetch",
    )
    add("--format", choices=FORMATS, default=BOTH, help="what to push (default: both)")
    add("--replace", action="store_true", help="move a tag that names something else")
    add("--mount-from", default="", metavar="NAME", help="take what another repository of that registry has from there")
    add("--plain-http", action="store_true", help="speak HTTP without TLS; on this machine that is found out")
    add("-d", "--directory", metavar="DIR", help="where snapshots are kept (or MODELDROP_HOME)")
    add("--trust", action="append", metavar="KEY", help="export only what this public key has signed")
    add("--trust-threshold", metavar="N", help="how many of the trusted keys must have signed (default: 1)")
    add_require_attestation(parser, "export only what")
    add_no_delta(parser)
    add("--timeout", metavar="TIME", help="limit for fetching, and again for pushing (default: 30m)")
    add("--quiet", action="store_true", help="show no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    reference, destination = reference_argument(arguments.reference), parse_destination(arguments.destination)
    options = _options(arguments)
    for tag in tags_of(arguments.format, destination.tag or "v1").values():
        check_tag(tag)
    with _opened(destination, arguments, options) as target:
        target.check()
    options = options._replace(variant=_variant(reference, options))
    with Steps(3, quiet=arguments.quiet) as steps:
        snapshot = _fetch(reference, arguments.directory, options, steps)
        tags = tags_of(arguments.format, destination.tag or f"v{snapshot.version}-{snapshot.variant}")
        with _opened(destination, arguments, options) as target:  # with a time limit, and a token, from now on
            target.check()
            pushes = _package(snapshot, tags, target, steps)
            steps.start("push")
            results = push(pushes, target, replace=arguments.replace, progress=steps.update)
        steps.finish(f"{size_text(sum(one.sent for one in results))} sent")
    if arguments.json:
        print_json(_json(snapshot, target, results))
        return 0
    for one in results:
        done = "pushed" if one.pushed else "there already"
        print(f"{target.url}:{one.planned.tag} {one.planned.digest}: {_KINDS[one.planned.form]}, {done}")
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    threshold = arguments.trust_threshold
    return Options(
        variant=setting("variant", arguments.variant),
        consumer=arguments.consumer,
        on_unavailable=FAIL,  # what the registry does not say now is not given to a cluster
        trust=arguments.trust,
        trust_threshold=None if threshold is None else setting("trust_threshold", threshold),
        require_attestation=arguments.require_attestation,
        no_delta=setting("no_delta", arguments.no_delta),
        timeout=setting("timeout", arguments.timeout),
    )


@contextlib.contextmanager
def _opened(
    destination: RegistryDestination | LayoutDestination, arguments: argparse.Namespace, options: Options
) -> Iterator[Target]:
    target: Target
    if isinstance(destination, RegistryDestination):
        mount_from = check_image_name(arguments.mount_from) if arguments.mount_from else ""
        limit = time_limit(options.timeout)
        client = Client(destination, limit, plain_http=arguments.plain_http, also_pull=mount_from)
        target = RegistryTarget(client, mount_from)
    elif arguments.mount_from or arguments.plain_http:
        raise UsageError(
            "--mount-from and --plain-http are for registries; this is a folder.", "Leave them out, or name oci://…"
        )
    else:
        target = LayoutTarget(expand_user(destination.folder).absolute(), destination.url)
    try:
        yield target
    except BaseException:
        target.close(failed=True)
        raise
    target.close(failed=False)


def _variant(reference: Reference, options: Options) -> str:
    """The variant to export: never the one that this machine would run, for others will.

    Raises:
        VariantError: none is named, and there are several.
    """
    if options.variant != AUTO:
        return options.variant
    resolver = Resolver(reference, options, time_limit(options.timeout), waits=lambda _: False, on_wait=lambda _: None)
    manifest = parse_manifest(resolver.read_manifest(resolver.resolve(None)))
    names = [variant.name for variant in options.layout.readable(manifest, None).variants]
    if len(names) > 1:
        raise VariantError(
            f"{reference} has several variants: {', '.join(names)}.",
            "Name one: --variant. What this machine would choose need not be what the cluster's machines run best.",
        )
    return names[0]


def _fetch(reference: Reference, directory: str | None, options: Options, steps: Steps) -> Snapshot:
    steps.start("fetch")
    snapshot = fetch(reference, directory, options=options, progress=steps.update)
    came = f"{size_text(snapshot.downloaded)} fetched" if snapshot.downloaded else "there already"
    if snapshot.figures.saved:
        came += f", {size_text(snapshot.figures.saved)} saved by deltas"
    steps.finish(f"{snapshot.model} v{snapshot.version} {snapshot.variant}, {came}")
    for warning in snapshot.warnings:
        print(f"modeldrop: warning: {warning}", file=sys.stderr)
    return snapshot


def _package(snapshot: Snapshot, tags: Mapping[str, str], target: Target, steps: Steps) -> tuple[PlannedPush, ...]:
    steps.start("package")
    try:
        pushes = plan_pushes(snapshot, tags, steps.update, target)
    except OSError as error:
        raise DiskError(
            f"{error.filename or snapshot.path} cannot be read: {error.strerror or error}.",
            "Check who may read it, and run the same command again.",
        ) from error
    steps.finish(", ".join(f"{planned.form} {planned.digest[:19]}…" for planned in pushes))
    return pushes


def _json(snapshot: Snapshot, target: Target, results: Sequence[PushResult]) -> dict[str, Any]:
    return {
        "source": f"{snapshot.registry}/{snapshot.model}@v{snapshot.version}@{snapshot.digest}",
        "variant": snapshot.variant,
        "exports": [
            {
                "format": one.planned.form,
                "reference": f"{target.url}:{one.planned.tag}@{one.planned.digest}",
                "tag": one.planned.tag,
                "digest": one.planned.digest,
                "pushed": one.pushed,
                "bytes": one.size,
                "sent_bytes": one.sent,
            }
            for one in results
        ],
    }
