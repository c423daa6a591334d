#!/usr/bin/env bash
# modeldrop in any CI that runs a shell, and from cron: ci.sh TASK. The registry is MODELDROP_REGISTRY, the models are those
# of modeldrop.toml in the current folder; how to sign in, the environment says (docs/storage.md).
#
#   ci.sh plan              on a pull request: what would be built; needs modeldrop[s3]
#   ci.sh publish [I/N]     on the main branch; or one of N machines' part of the models; needs modeldrop[s3,hub,build]
#   ci.sh prune             every night: old versions, what crashed publishers left
#   ci.sh doctor            every morning: fails with how to mend what is wrong
#   ci.sh renew             every night, where channels are signed: MODELDROP_SIGNING_KEY
#   ci.sh clean-up CHANNEL  when a pull request is closed: its channel, of all models
set -euo pipefail

registry=${MODELDROP_REGISTRY:?is the registry, such as s3://acme-models}
case ${1:-} in
  plan) modeldrop plan --all ;;
  publish) modeldrop publish --all --shard "${2:-1/1}" ;;
  prune) modeldrop prune "$registry" --keep 10 --older-than 90d --yes ;;
  doctor) modeldrop doctor "$registry" ;;
  renew) modeldrop refresh "$registry" --expires-in 7d ;;
  clean-up) modeldrop channel rm "$registry" --channel "${2:?is the channel, such as pr-17}" ;;
  *)
    echo "ci.sh: plan, publish, prune, doctor, renew or clean-up" >&2
    exit 2
    ;;
esac
