# The demo's model server (scripts/model-server) as an image: wheels only, nothing is compiled and no model hub is asked.
FROM python:3.12-slim
# What llama.cpp's threads run on. Any version of the base's Debian will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY scripts/model-server/requirements.txt /srv/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r /srv/requirements.txt
COPY scripts/model-server/serve.py /srv/serve.py
USER 65532:65532
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
CMD ["python", "/srv/serve.py", "8000", "0.0.0.0"]
