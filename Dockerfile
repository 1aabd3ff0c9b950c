# aslgate without the embedded Postgres: give it a server by ASLGATE_DATABASE_URL.
#
#   docker build --tag aslgate .
#   docker run --publish 8000:8000 --env ASLGATE_DATABASE_URL=postgresql://… aslgate

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/aslgate
WORKDIR /src
# The dependencies first: they change less often than the code.
COPY requirements-server.lock ./
RUN /opt/aslgate/bin/pip install --require-hashes --only-binary :all: -r requirements-server.lock
COPY pyproject.toml ./
COPY app app
COPY migrations migrations
COPY policies policies
RUN /opt/aslgate/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent aslgate
COPY --from=build /opt/aslgate /opt/aslgate
ENV PATH=/opt/aslgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
# A connection, not a shell tool: the image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["aslgate"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
