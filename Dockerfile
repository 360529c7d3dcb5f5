# docker build --tag lbipam:0.1.0 .
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /app
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
# The dependencies first: they change less often than the program.
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-dev --no-install-project
COPY README.md LICENSE ./
COPY src ./src
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.11-slim
# The agent hands its rules to libnftables.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libnftables1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /app/.venv /app/.venv
# Nothing is written beside the API, so that the root file system can be read-only.
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/app/.venv/bin/lbipam"]
