# The image of kstash: a base for applications, with the three that come with it.
#   docker build -t kstash .
#   docker run --rm kstash kstash --help
# An application is built on it: FROM kstash, COPY program.py /app/, CMD ["kstash", "run", "program:app"].
# It runs with a read-only root file system: state is in /var/lib/kstash, which is a volume, and needs /tmp as tmpfs.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kstash kstash
COPY apps apps
RUN python -m venv /opt/kstash \
 && /opt/kstash/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt ".[objects]" \
 && /opt/kstash/bin/python -m compileall -q /opt/kstash

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="kstash" \
      org.opencontainers.image.description="Exactly-once stream processing for Python on Kafka" \
      org.opencontainers.image.licenses="Apache-2.0"
# tini is process 1: it passes signals on, and buries processes that lost their parent.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini=0.19.* \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 kstash \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/kstash --shell /usr/sbin/nologin kstash \
 && install --directory --owner=kstash --group=kstash /var/lib/kstash /app
COPY --from=build /opt/kstash /opt/kstash
# With the hash seed in the environment the program need not be executed a second time.
ENV PATH=/opt/kstash/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0 \
    KSTASH_STATE_DIR=/var/lib/kstash \
    KSTASH_HTTP_HOST=0.0.0.0 \
    KSTASH_HTTP_PORT=8080
WORKDIR /app
USER 10001:10001
VOLUME /var/lib/kstash
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; e = os.environ; s = 'https' if e.get('KSTASH_HTTP_TLS_CERTIFICATE') else 'http'; r.urlopen(f\"{s}://127.0.0.1:{e['KSTASH_HTTP_PORT']}/livez\", timeout=5, context=ssl._create_unverified_context())"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["kstash", "--help"]
