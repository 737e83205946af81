# The three images: one content, and a role that each begins. `docker build --build-arg SERVICE=scheduler .`
#
#   base ─► build      installs what uv.lock names, and then dispatchd, into /opt/dispatchd
#   base ─► runtime    has that folder, no tool that built it, and a user without rights
#             ├─► control-plane
#             ├─► scheduler          each adds its command, its ports and its health check
#             └─► worker-gateway
#
# The last line picks one of them, so that no shell stands between a role and its signals. Another base has to bring
# Python 3.11 or newer with venv, and the certificates of public authorities. docs/images.md says more.

ARG BASE=docker.io/library/python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
ARG SERVICE=control-plane

FROM ${BASE} AS build
RUN python3 -m venv /uv && /uv/bin/python -m pip install --no-cache-dir uv==0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/dispatchd \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1 \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
WORKDIR /source
# What others wrote changes less often than what we write, so that its layer is built less often.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv /uv/bin/uv sync --quiet --locked --no-dev --no-install-project
COPY README.md LICENSE ./
COPY app app
ARG SOURCE_DATE_EPOCH=0
# Two builds of one commit have the same files with the same times: uv notes down when it installed a local project.
RUN --mount=type=cache,target=/root/.cache/uv /uv/bin/uv sync --quiet --locked --no-dev --no-editable \
    && rm /opt/dispatchd/.lock /opt/dispatchd/lib/python*/site-packages/dispatchd-*.dist-info/uv_cache.json \
    && sed -i '/uv_cache.json/d' /opt/dispatchd/lib/python*/site-packages/dispatchd-*.dist-info/RECORD \
    && find /opt/dispatchd -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE} AS runtime
COPY --from=build /opt/dispatchd /opt/dispatchd
ENV PATH=/opt/dispatchd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["dispatchd"]
ARG VERSION=0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=https://github.com/dispatchd/dispatchd
LABEL org.opencontainers.image.title="dispatchd" \
      org.opencontainers.image.description="Durable task orchestration over gRPC: jobs that must not get lost" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

FROM runtime AS control-plane
ENV METRICS_PORT=9100
EXPOSE 8080 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f'http://127.0.0.1:{os.environ[\"METRICS_PORT\"]}/readyz', timeout=4)"]
CMD ["control-plane"]

FROM runtime AS scheduler
ENV METRICS_PORT=9101
EXPOSE 9101
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f'http://127.0.0.1:{os.environ[\"METRICS_PORT\"]}/readyz', timeout=4)"]
CMD ["scheduler"]

FROM runtime AS worker-gateway
ENV METRICS_PORT=9102
EXPOSE 8080 9102
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f'http://127.0.0.1:{os.environ[\"METRICS_PORT\"]}/readyz', timeout=4)"]
CMD ["worker-gateway"]

FROM ${SERVICE}
