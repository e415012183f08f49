# Kixo with everything for one machine or several. `docker build -t kixo .`; deploy/compose.yaml and deploy/kubernetes/ use it.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/kixo
# First what changes seldom.
COPY requirements-distributed.txt ./
RUN /opt/kixo/bin/pip install --no-cache-dir --require-hashes -r requirements-distributed.txt
COPY pyproject.toml README.md ./
COPY src ./src
RUN /opt/kixo/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home kixo && install -d -o kixo -g kixo /var/lib/kixo
COPY --from=build /opt/kixo /opt/kixo
ENV PATH=/opt/kixo/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KIXO_DATA_DIR=/var/lib/kixo \
    KIXO_HOST=0.0.0.0 \
    KIXO_CONSOLE_HOST=0.0.0.0 \
    KIXO_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/kixo
VOLUME /var/lib/kixo
EXPOSE 8000 8001
# The private port of whatever runs. SIGTERM ends it in order.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8001/healthz', timeout=2)"]
ENTRYPOINT ["kixo"]
CMD ["serve"]
