#!/usr/bin/env bash
# Who fetches may read the container, and nothing else: a managed identity.
#   SUBSCRIPTION=… GROUP=… azure.sh                                Container Apps, App Service, virtual machines
#   SUBSCRIPTION=… GROUP=… azure.sh $ISSUER search search          AKS: issuer URL, namespace, service account
set -euo pipefail

az identity create --name modeldrop-fetcher --resource-group "$GROUP"
if [[ $# -eq 3 ]]; then
  az identity federated-credential create --name modeldrop-fetcher --identity-name modeldrop-fetcher \
    --resource-group "$GROUP" --issuer "$1" --subject "system:serviceaccount:$2:$3" \
    --audiences api://AzureADTokenExchange
fi
PRINCIPAL=$(az identity show --name modeldrop-fetcher --resource-group "$GROUP" --query principalId --output tsv)

az role assignment create --assignee "$PRINCIPAL" \
  --role "Storage Blob Data Reader" \
  --scope "/subscriptions/$SUBSCRIPTION/resourceGroups/$GROUP/providers/Microsoft.Storage/storageAccounts/acmemodels/blobServices/default/containers/models"
