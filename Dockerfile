# One image for all programs: putgate, putgate-api, putgate-daemon, putgate-operator. Each container names its command.
# A release builds it with a base pinned by digest: --build-arg BASE=python:3.13-slim@sha256:…
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG WHEELS=/wheels
ARG TOOLS=/tools
ARG PREFIX=/opt/putgate
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src

# Everything that comes from outside, each file by its hash. From here on nothing is fetched any more.
COPY requirements/image.txt requirements/
RUN python3 -m pip download --quiet --require-hashes --only-binary=:all: -r requirements/image.txt -d "$WHEELS"

# What builds the wheel stays out of the image.
RUN python3 -m venv "$TOOLS" && "$TOOLS/bin/python" -m pip install --quiet --no-index --find-links "$WHEELS" hatchling
COPY pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY storage storage
COPY api api
COPY operator operator
COPY daemon daemon
COPY client client
RUN "$TOOLS/bin/python" -m hatchling build -t wheel -d "$WHEELS"

# Compiled now: the file system is read-only when it runs. And nothing is installed there later, so pip goes.
RUN python3 -m venv "$PREFIX" && "$PREFIX/bin/python" -m pip install --quiet --no-index --find-links "$WHEELS" "putgate[api,daemon,operator]"
RUN "$PREFIX/bin/python" -m pip check && "$PREFIX/bin/python" -m compileall -q "$PREFIX/lib" && "$PREFIX/bin/python" -m pip uninstall --quiet --yes pip

FROM ${BASE}
ARG PREFIX=/opt/putgate
COPY --from=build ${PREFIX} ${PREFIX}
ENV PATH=${PREFIX}/bin:${PATH} HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A number, since `runAsNonRoot` cannot look up a name.
USER 65532:65532
WORKDIR /tmp
CMD ["putgate", "--help"]
