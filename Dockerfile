# Two images of modeldrop:
#
#   docker build --target fetcher -t modeldrop .           init containers, sidecars, node caches: fetch, run, watch
#   docker build --target builder -t modeldrop-builder .   export and publish, with CPU torch and the clouds' SDKs
#
# The fetcher builds for linux/amd64 and linux/arm64, the builder for linux/amd64. Everything that is installed is pinned
# with its hash in requirements/ (`make lock`), and files have one date, so that a build can be repeated:
#
#   SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
#   docker buildx build --target fetcher --build-arg SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH \
#     --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) --output type=image,rewrite-timestamp=true .
#
# Behind a package mirror: --secret id=pip,src=$HOME/.config/pip/pip.conf, which leaves no trace in the image.
# The newest base: docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# The date of every file, for who gives none: hatchling's own.
ARG SOURCE_DATE_EPOCH=1580601600

# The wheel of this checkout.
FROM ${PYTHON_IMAGE} AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/wheel.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --quiet --require-hashes -r requirements/wheel.txt
COPY pyproject.toml README.md LICENSE ./
COPY requirements/build-torch.txt requirements/build-transformers.txt requirements/build.txt requirements/
COPY src src
ARG SOURCE_DATE_EPOCH
RUN SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

# The fetcher's tree. One set of byte code, checked against nothing at import: files that nobody may write do not change.
FROM wheel AS fetcher-tree
ARG SOURCE_DATE_EPOCH
COPY requirements/fetch.txt requirements/
RUN python3 -m venv --without-pip /opt/modeldrop
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip --python /opt/modeldrop/bin/python install --quiet \
    --require-hashes --only-binary=:all: -r requirements/fetch.txt
RUN pip --python /opt/modeldrop/bin/python install --quiet --no-deps --no-index /wheels/*.whl \
    && rm /opt/modeldrop/bin/[Aa]ctivate* \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/modeldrop/lib \
    && find /opt/modeldrop -exec touch --no-dereference --date=@"$SOURCE_DATE_EPOCH" {} +

# torch first, from PyTorch's own address: the CPU build.
FROM wheel AS builder-tree
ARG SOURCE_DATE_EPOCH
COPY requirements/build-torch.txt requirements/build.txt requirements/fetch.txt requirements/plan-azure.txt \
    requirements/plan-gcs.txt requirements/plan-s3.txt requirements/
RUN python3 -m venv --without-pip /opt/modeldrop
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip --python /opt/modeldrop/bin/python install --quiet --no-deps \
    --require-hashes --only-binary=:all: --index-url https://download.pytorch.org/whl/cpu -r requirements/build-torch.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip --python /opt/modeldrop/bin/python install --quiet \
    --require-hashes --only-binary=:all: -r requirements/build-torch.txt -r requirements/build.txt \
    -r requirements/fetch.txt -r requirements/plan-azure.txt -r requirements/plan-gcs.txt -r requirements/plan-s3.txt
# Without byte code every export would spend ten seconds compiling what it imports. torch's own tests are not all
# written for this Python.
RUN pip --python /opt/modeldrop/bin/python install --quiet --no-deps --no-index /wheels/*.whl \
    && rm /opt/modeldrop/bin/[Aa]ctivate* \
    && python3 -m compileall -q --workers 0 -x /torch/testing/ --invalidation-mode unchecked-hash /opt/modeldrop/lib \
    && find /opt/modeldrop -exec touch --no-dereference --date=@"$SOURCE_DATE_EPOCH" {} +

# Python without what installs packages, and somebody who is not root. /models is writable for him, and for the group 0
# in which OpenShift runs whomever it likes. It is no VOLUME: that would throw away what a derived image fetches into it.
FROM ${PYTHON_IMAGE} AS base
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3*/ensurepip \
        /usr/local/lib/python3*/site-packages/* \
    && echo 'modeldrop:x:65532:65532::/home/modeldrop:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'modeldrop:x:65532:' >> /etc/group \
    && install -d -o 65532 -g 0 -m 0775 /home/modeldrop /models
ENV HOME=/home/modeldrop \
    MODELDROP_HOME=/models \
    PATH=/opt/modeldrop/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin \
    PYTHONDONTWRITEBYTECODE=1
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.documentation=https://github.com/modeldrop/modeldrop/blob/main/docs/deploy.md \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.source=https://github.com/modeldrop/modeldrop \
      org.opencontainers.image.version=$VERSION
STOPSIGNAL SIGTERM
ENTRYPOINT ["modeldrop"]
CMD ["--help"]

FROM base AS builder
LABEL org.opencontainers.image.title=modeldrop-builder \
      org.opencontainers.image.description="Exports, quantizes, verifies and publishes models: modeldrop with CPU torch and the SDKs of S3, GCS and Azure"
COPY --from=builder-tree /opt/modeldrop /opt/modeldrop
# A build's output is mounted here, writable for 65532.
WORKDIR /home/modeldrop
USER 65532:65532

# Last, so that a build without --target makes it.
FROM base AS fetcher
LABEL org.opencontainers.image.title=modeldrop \
      org.opencontainers.image.description="Fetches models from S3, GCS, Azure or a folder, verified, and follows their channels"
COPY --from=fetcher-tree /opt/modeldrop /opt/modeldrop
# Healthy once a model is there, and while it is whole. For a sidecar; an init container is gone before it is asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m CMD ["modeldrop", "status"]
USER 65532:65532
