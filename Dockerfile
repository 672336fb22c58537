# TuneGraph as an image: the service by default, any command otherwise. How to run it: docs/running.md.
# It is for linux/amd64, as the locks are. For several machines, with Ray, the object store and Postgres:
# docker build --build-arg LOCK=requirements-cluster.lock -t tunegraph-cluster .
FROM python:3.11-slim-bookworm AS build
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /opt/tunegraph
RUN python3 -m venv .venv
ARG LOCK=requirements.lock
COPY requirements.lock requirements-cluster.lock ./
RUN .venv/bin/pip install --quiet --require-hashes -r ${LOCK}
COPY pyproject.toml README.md LICENSE dagster.yaml workspace.yaml dagster.cluster.yaml workspace.cluster.yaml ./
COPY tunegraph_pipeline tunegraph_pipeline
RUN .venv/bin/pip install --quiet --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/tunegraph/.venv /opt/tunegraph/.venv
# All that is written is the lake, a volume of nobody, and what libraries keep in /tmp.
ENV PATH=/opt/tunegraph/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TUNEGRAPH_LAKE=/data/lake
RUN install --directory --owner=65534 --group=65534 --mode=750 /data
USER 65534:65534
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["tunegraph"]
CMD ["serve", "--host", "0.0.0.0"]
