# A slim CPU image that installs the wheel: docker build -t tritium . && docker run --rm -p 8000:8000 -p 8001:8001 -p 8002:8002 -p 9000:9000 -v "$PWD/model_repository:/models" tritium
# As in Triton's image what follows its name is the command: docker run ... tritium tritonserver --model-repository=/models
# With vLLM for a GPU: docker build --build-arg EXTRAS=onnx,vllm,nixl -t tritium:vllm .
# The full image builds, for it has the C compiler that the hot path is compiled with.
FROM python:3.11 AS build
WORKDIR /src
RUN pip install --no-cache-dir build
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY server server
COPY backends backends
COPY compat compat
COPY migration migration
RUN TRITIUM_COMPILE=1 python -m build --wheel --outdir /wheel

FROM python:3.11-slim
ARG EXTRAS=onnx
COPY --from=build /wheel /wheel
RUN python -m venv /opt/tritium \
 && wheel=$(ls /wheel/*.whl) \
 && /opt/tritium/bin/pip install --no-cache-dir "$wheel[$EXTRAS]" \
 && rm -rf /wheel \
 && useradd --create-home --uid 1000 tritium
# Start scripts written for Triton's image name the server by its path there.
RUN mkdir -p /opt/tritonserver/bin && ln -s /opt/tritium/bin/tritonserver /opt/tritonserver/bin/tritonserver
ENV PATH=/opt/tritium/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRITIUM_HOST=0.0.0.0
USER tritium
WORKDIR /home/tritium
EXPOSE 8000 8001 8002 9000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
CMD ["tritium", "serve", "/models", "--log-format", "json"]
