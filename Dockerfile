# One image for the ML backend and the worker; the command decides.
#   docker build .                            for CPUs, without CUDA libraries
#   docker build --build-arg DEVICE=gpu .     for NVIDIA GPUs
#   docker build --target mlflow .            MLflow's server
ARG DEVICE=cpu

FROM python:3.11.13-slim-bookworm AS python
RUN useradd --create-home --uid 1000 captioner && install -d -o captioner /data

FROM python AS installer
# Whoever serves may not write beside the packages, so every start would compile them again, which takes as long as loading.
ENV UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 VIRTUAL_ENV=/opt/captioner
WORKDIR /build
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.txt \
    && pip install --no-cache-dir --no-deps --require-hashes -r uv.txt && uv venv /opt/captioner

FROM installer AS packages-cpu
# Of the lock's versions, but its hashes are those of the CUDA builds.
RUN uv pip install --no-deps --no-verify-hashes --torch-backend=cpu -c requirements.lock torch torchvision

# The CUDA libraries come with PyTorch's wheels.
FROM installer AS packages-gpu

FROM packages-${DEVICE} AS packages
RUN uv pip install -c requirements.lock -r pyproject.toml \
    --extra encoders --extra mlflow --extra onnx --extra postgresql --extra s3
COPY backend backend
COPY training training
COPY labeling_config labeling_config
COPY benchmarks benchmarks
COPY demo demo
RUN uv pip install --no-deps --no-build-isolation .

# Together a whole server; the package mlflow holds back what the lock has.
FROM installer AS packages-mlflow
RUN uv pip install -c requirements.lock mlflow-skinny aiohttp alembic flask flask-cors graphene pandas sqlalchemy

FROM python AS mlflow
COPY --from=packages-mlflow /opt/captioner /opt/captioner
ENV PATH=/opt/captioner/bin:$PATH MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONUNBUFFERED=1
USER captioner
EXPOSE 5000
# Its clients name it as the host `mlflow`; it refuses other hosts, which web pages could misuse.
CMD ["mlflow", "server", "--workers", "1", "--host", "0.0.0.0", \
     "--allowed-hosts", "mlflow:5000,localhost:5000,127.0.0.1:5000", \
     "--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/artifacts"]

FROM python
COPY --from=packages /opt/captioner /opt/captioner
USER captioner
ENV PATH=/opt/captioner/bin:$PATH CAPTIONER_DATA_DIR=/data CAPTIONER_HOST=0.0.0.0 PYTHONUNBUFFERED=1
WORKDIR /data
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/ready', timeout=2)"]
CMD ["captioner", "serve"]
