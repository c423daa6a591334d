#!/usr/bin/env bash
# Who fetches may read the bucket, and nothing else.
#   google.sh kubernetes acme search search     project, namespace, service account: GKE's workload identity
#   google.sh service-account acme              a service account, for Cloud Run and Compute Engine
set -euo pipefail
kind=$1
PROJECT=$2

case $kind in
  kubernetes)
    NUMBER=$(gcloud projects describe "$PROJECT" --format='value(projectNumber)')
    PRINCIPAL=principal://iam.googleapis.com/projects/$NUMBER/locations/global/workloadIdentityPools/$PROJECT.svc.id.goog/subject/ns/$3/sa/$4
    ;;
  service-account)
    gcloud iam service-accounts create modeldrop-fetcher --project="$PROJECT"
    PRINCIPAL=serviceAccount:modeldrop-fetcher@$PROJECT.iam.gserviceaccount.com
    ;;
  *)
    echo "google.sh: $kind is neither kubernetes nor service-account" >&2
    exit 2
    ;;
esac

gcloud storage buckets add-iam-policy-binding gs://acme-models \
  --member="$PRINCIPAL" --role=roles/storage.objectViewer
