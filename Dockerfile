# The agent and its command line, and nothing else: `docker build --tag federator:dev .`
FROM rust:1.95.0-bookworm AS build
# The toolchain that is there, without what only developers need.
ENV RUSTUP_TOOLCHAIN=1.95.0 PROTOC=/usr/bin/protoc PROTOC_INCLUDE=/usr/include
RUN apt-get update \
    && apt-get install --yes --no-install-recommends protobuf-compiler libprotobuf-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package federator

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/federator /federator
# As a number: Kubernetes cannot tell of a name that it is not root's.
USER 65532:65532
ENTRYPOINT ["/federator"]
