# The image of vintner: one program, which runs as a node unless told otherwise (`docker run vintner grape ...`).
# `docker compose up -d` builds it by itself; docker-compose.yml says how a network of them is put together.

FROM rust:1-slim-bookworm AS builder
WORKDIR /build
ENV CARGO_PROFILE_RELEASE_DEBUG=false

# A layer with all dependencies, built against an empty program: it stays as long as these files do. Benches and tests
# that the manifest names would have to exist, so they are left out of it.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN awk '/^\[/ { skip = /^\[\[(bench|example|test)\]\]/ } !skip' Cargo.toml >program.toml && mv program.toml Cargo.toml \
    && mkdir src && echo '//! Stands in for the library.' >src/lib.rs && printf '//! Stands in for the program.\nfn main() {}\n' >src/main.rs \
    && cargo build --release --locked --bin vintner

COPY src src
# cargo goes by the time of a file, and these are older than what stood in for them.
RUN find src -type f -exec touch {} + && cargo build --release --locked --bin vintner


FROM debian:bookworm-slim
# The slim image has no certificates, and the HTTP client does not start without any.
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A volume that is mounted on /data for the first time gets its owner and mode.
RUN groupadd --system --gid 10001 vintner \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin vintner \
    && install -d -o vintner -g vintner -m 0700 /data
COPY --from=builder /build/target/release/vintner /usr/local/bin/vintner

USER 10001:10001
ENV VINTNER_DATA_DIR=/data VINTNER_GRAPE_DATA_DIR=/data
VOLUME /data
# RPC and DHT, for other nodes. The API stays on the container's loopback unless VINTNER_API says otherwise.
EXPOSE 1337/tcp 20011/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["vintner", "healthcheck"]
ENTRYPOINT ["vintner"]
CMD ["node"]
