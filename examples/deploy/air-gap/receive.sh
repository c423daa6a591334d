#!/usr/bin/env bash
# Inside: copy from the carried disk to the site's own registry, and move its `current` forward.
#   receive.sh /mnt/usb
# Each file is checked against its digest on the way; a damaged disk changes nothing inside. A version that is there
# already is not copied again. The site's registry is a folder that everybody mounts, or an S3-compatible store: then
# MODELDROP_REGISTRY=inside, and modeldrop.toml beside this script says where that is.
# Identity: ../identity/aws-publisher.json, for whoever runs this; what fetches needs no more than aws-fetcher.json.
set -euo pipefail
disk=$1
site=${MODELDROP_REGISTRY:-/srv/models}

for model in embedder reranker; do
  modeldrop mirror "$disk/models/$model" "$site" --channel current
done
modeldrop ls "$site"
