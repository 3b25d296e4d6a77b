# syntax=docker/dockerfile:1.7
#
# Two targets with the same binary. It is built without the embedded store, writes to a Qdrant server, and loads ONNX Runtime at startup:
#   docker build --target cpu  -t clipstream:cpu  .     linux/amd64, linux/arm64; the default
#   docker build --target cuda -t clipstream:cuda .     linux/amd64; CUDA 13, run with --gpus all

FROM rust:1.95.0-bookworm AS build
# libjpeg-turbo is built with cmake; its SIMD code and that of rav1d with nasm.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake nasm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The caches live outside the layers, so the binary has to be copied out of the target folder.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release --bin clipstream --no-default-features --features avif-simd \
    && install -D --strip target/release/clipstream /out/clipstream

# The script that development machines use installs ONNX Runtime: same version, same sha256.
FROM python:3.12.12-slim-bookworm AS wheels
WORKDIR /src
COPY config/onnxruntime.version config/
COPY scripts/onnxruntime scripts/wheels.py scripts/wheels.sha256 scripts/
ENV XDG_CACHE_HOME=/tmp/cache

# The link gives the library a path without its version; the provider libraries are found beside it.
FROM wheels AS onnxruntime-cpu
RUN library=$(scripts/onnxruntime) \
    && cp -r "$(dirname "$library")" /opt/onnxruntime \
    && ln -s "$(basename "$library")" /opt/onnxruntime/libonnxruntime.so

FROM wheels AS onnxruntime-cuda
RUN library=$(scripts/onnxruntime --cuda) \
    && cp -r "$(dirname "$library")" /opt/onnxruntime \
    && ln -s "$(basename "$library")" /opt/onnxruntime/libonnxruntime.so

# The files that both targets add to their base image.
FROM scratch AS files
COPY --from=build /out/clipstream /usr/local/bin/clipstream
COPY config/clipstream.toml /etc/clipstream/clipstream.toml
COPY demo/model /models/demo
COPY LICENSE NOTICE /usr/share/doc/clipstream/
COPY demo/LICENSES /usr/share/doc/clipstream/demo-licenses

# The wheel is built for CUDA 13 with cuDNN 9; the base image's tag has to match both.
FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 AS cuda
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/clipstream clipstream
COPY --from=files / /
COPY --from=onnxruntime-cuda /opt/onnxruntime /opt/onnxruntime
ENV CLIPSTREAM_ORT_DYLIB=/opt/onnxruntime/libonnxruntime.so \
    CLIPSTREAM__CLIP__PROVIDERS=cuda,cpu \
    CLIPSTREAM__STORE__KIND=qdrant \
    CLIPSTREAM__TELEMETRY__LISTEN=0.0.0.0:9090
USER 10001
WORKDIR /var/lib/clipstream
EXPOSE 9090
# Liveness, not readiness: a worker that waits for a database must not be restarted. Loading a model takes time.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["clipstream"]
CMD ["run", "--config", "/etc/clipstream/clipstream.toml"]

# Last, and so the default target.
FROM debian:bookworm-20260824-slim AS cpu
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/clipstream clipstream
COPY --from=files / /
COPY --from=onnxruntime-cpu /opt/onnxruntime /opt/onnxruntime
ENV CLIPSTREAM_ORT_DYLIB=/opt/onnxruntime/libonnxruntime.so \
    CLIPSTREAM__STORE__KIND=qdrant \
    CLIPSTREAM__TELEMETRY__LISTEN=0.0.0.0:9090
USER 10001
WORKDIR /var/lib/clipstream
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:9090/livez"]
ENTRYPOINT ["clipstream"]
CMD ["run", "--config", "/etc/clipstream/clipstream.toml"]
