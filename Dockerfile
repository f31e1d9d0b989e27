# CPU only: `docker build -t privgan .`, then `docker run privgan make test` or `make figures`.
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make gcc g++ libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /privgan
COPY . .
RUN make env
CMD ["make", "figures", "SCALE=smoke"]
