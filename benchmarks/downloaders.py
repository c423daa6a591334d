"""Whoever brings a file of a bucket to a folder: modeldrop and its peers, each with its own defaults."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE
from benchmarks.workspace import modeldrop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.servers.nginx import NginxServer

REGISTRY = "bucket/models"
"""Bucket and prefix of all versions here."""

_COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
_BOTO3 = """\
import sys
import boto3
endpoint, bucket, key, target = sys.argv[1:]
boto3.client("s3", endpoint_url=endpoint).download_file(bucket, key, target)
"""
_CRT = """\
import sys
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType
host, path, target = sys.argv[1:]
bootstrap = ClientBootstrap.get_or_create_static_default()
client = S3Client(bootstrap=bootstrap, region="us-east-1", tls_mode=S3RequestTlsMode.DISABLED)
request = HttpRequest("GET", path, HttpHeaders([("host", host)]))
client.make_request(type=S3RequestType.GET_OBJECT, request=request, recv_filepath=target).finished_future.result()
"""
_HUB = """\
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Side:
    """A program: its command for a folder to fill, and what its environment must hold."""

    name: str
    command: Callable[[Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


def hub_locations(model: str, size: int) -> str:
    """What lets the server show ``model`` as a Hugging Face hub's repository ``acme/MODEL`` of one file."""
    information = json.dumps({"id": f"acme/{model}", "sha": _COMMIT, "siblings": [{"rfilename": MODEL_FILE}]})
    tree = json.dumps([{"type": "file", "path": MODEL_FILE, "size": size, "oid": _COMMIT}])
    return f"""
    location ~ ^/api/models/acme/{model}/tree/ {{
      default_type application/json;
      return 200 '{tree}';
    }}
    location ~ ^/api/models/acme/{model}(/revision/main)?$ {{
      default_type application/json;
      return 200 '{information}';
    }}
    location ~ ^/acme/{model}/resolve/[^/]+/(.+)$ {{
      add_header X-Repo-Commit {_COMMIT};
      rewrite ^/acme/{model}/resolve/[^/]+/(.+)$ /{REGISTRY}/{model}/v1/$1 break;
    }}"""


def sides(server: NginxServer, peers: Path, model: str) -> dict[str, Side]:
    """Everybody who can bring the one file of ``model``'s version; ours first."""
    key = f"models/{model}/v1/{MODEL_FILE}"
    url, address = f"s3://bucket/{key}", f"{server.endpoint}/bucket/{key}"
    python, host = str(peers / "python"), f"127.0.0.1:{server.port}"

    def file(folder: Path) -> str:
        return str(folder / "model.onnx")

    endpoint = ["--endpoint-url", server.endpoint]
    everybody = [
        ours(server, model),
        Side("curl", lambda folder: ["curl", "--silent", "--fail", "-o", file(folder), address]),
        Side("s5cmd", lambda folder: [str(peers / "s5cmd"), "--log", "error", *endpoint, "cp", url, file(folder)]),
        Side("AWS CRT", lambda folder: [python, "-c", _CRT, host, f"/bucket/{key}", file(folder)]),
        Side("boto3", lambda folder: [python, "-c", _BOTO3, server.endpoint, "bucket", key, file(folder)]),
        Side("aws s3 cp", lambda folder: [str(peers / "aws"), "s3", "cp", "--quiet", url, file(folder)]),
        Side(
            "huggingface_hub",
            lambda folder: [python, "-c", _HUB, f"acme/{model}", str(folder)],
            {"HF_ENDPOINT": server.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        ),
    ]
    if shutil.which("rclone"):
        rclone = ["rclone", "--config", os.devnull, "--s3-provider", "Other", "--s3-env-auth", "--s3-force-path-style"]
        rclone += ["--s3-endpoint", server.endpoint, "copyto", f":s3:bucket/{key}"]
        everybody.append(Side("rclone", lambda folder: [*rclone, file(folder)]))
    else:
        print("rclone is not installed, so it is no peer. On Debian: apt-get install rclone", file=sys.stderr)
    return {side.name: replace(side, environment={**server.environment, **side.environment}) for side in everybody}


def ours(server: NginxServer, model: str) -> Side:
    """Whole processes of ``modeldrop fetch``."""
    command = modeldrop("fetch", f"s3://{REGISTRY}/{model}", "--quiet")
    return Side("ours", lambda folder: [*command, "-d", str(folder)], server.environment)


def s5cmd_many(server: NginxServer, peers: Path, model: str, files: list[str], list_file: Path) -> Side:
    """s5cmd with a list of all files, since the server cannot list: that spares it a request."""

    def command(folder: Path) -> list[str]:
        lines = (f"cp s3://{REGISTRY}/{model}/v1/{name} {folder / name}\n" for name in files)
        list_file.write_text("".join(lines), "utf-8")
        return [str(peers / "s5cmd"), "--log", "error", "--endpoint-url", server.endpoint, "run", str(list_file)]

    return Side("s5cmd", command, server.environment)
