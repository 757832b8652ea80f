# syntax=docker/dockerfile:1
# Two images from one file: `docker build --target cpu .` and `docker build --target gpu .`

ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS builder
# PyTorch's plain wheel carries CUDA (several GB). For a small CPU image pass the address of PyTorch's CPU wheel index
# (its "Get started" page names it) as --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL}
RUN python -m venv /opt/polyseek
ENV PATH=/opt/polyseek/bin:$PATH
WORKDIR /src
# The largest part by far, in a layer of its own: a change of the source doesn't fetch it again.
COPY constraints.txt .
RUN pip install --constraint constraints.txt torch
COPY . .

FROM builder AS builder-cpu
RUN pip install --constraint constraints.txt ".[cpu]"

FROM builder AS builder-gpu
RUN pip install --constraint constraints.txt ".[gpu]"

FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
# libgomp: the OpenMP run time of PyTorch and FAISS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 polyseek \
    && useradd --uid 10001 --gid polyseek --no-create-home --home-dir /cache --shell /usr/sbin/nologin polyseek \
    && install --directory --owner=polyseek --group=polyseek /data /cache
ENV PATH=/opt/polyseek/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    HF_HOME=/cache/huggingface \
    POLYSEEK_ROOT=/data \
    POLYSEEK_CACHE=/cache \
    POLYSEEK_HOST=0.0.0.0 \
    POLYSEEK_PORT=8000
VOLUME ["/data", "/cache"]
WORKDIR /data
USER 10001:10001
EXPOSE 8000
# Ready means that it has encoded and searched; a large collection may take its time to open.
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['POLYSEEK_PORT']}/readyz\", timeout=4)"]
ENTRYPOINT ["polyseek"]
CMD ["serve"]

FROM runtime AS gpu
COPY --from=builder-gpu /opt/polyseek /opt/polyseek
# The driver's libraries come from the host through the NVIDIA container toolkit.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The last stage is what a build without --target makes.
FROM runtime AS cpu
COPY --from=builder-cpu /opt/polyseek /opt/polyseek
