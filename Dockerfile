# One image for the ML backend and the worker; the command decides. The CUDA libraries come with PyTorch's wheels.
FROM python:3.11-slim

# The user below may not write beside the packages, so every start would compile them again, which takes as long as loading.
ENV UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv && useradd --create-home --uid 1000 captioner
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN uv pip install --system --no-cache --require-hashes -r requirements.lock
COPY backend backend
COPY training training
COPY labeling_config labeling_config
COPY benchmarks benchmarks
COPY demo demo
RUN uv pip install --system --no-cache --no-deps --no-build-isolation . \
    && mkdir -p /data && chown captioner /data
USER captioner
ENV CAPTIONER_DATA_DIR=/data CAPTIONER_HOST=0.0.0.0 PYTHONUNBUFFERED=1
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/ready', timeout=2)"
CMD ["captioner", "serve"]
