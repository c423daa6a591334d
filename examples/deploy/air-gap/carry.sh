#!/usr/bin/env bash
# Outside, with network: copy the version that `current` names to a disk that is carried in.
#   carry.sh /mnt/usb
# Identity: ../identity/aws-fetcher.json. Nothing is built; the copy keeps its digest, by which both sides name it.
set -euo pipefail
disk=$1

for model in embedder reranker; do
  modeldrop mirror "s3://acme-models/$model" "$disk/models" --channel current
done
modeldrop ls "$disk/models"
