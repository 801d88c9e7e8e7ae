# syntax=docker/dockerfile:1
# One small image with the three programs; the targets differ in what they start.
#   docker build -t overshot .                       the API; any program by its name: docker run overshot overshot-worker
#   docker build --target worker -t overshot-worker .
#   docker build --target cli -t overshot-cli .
ARG RUST=rust:1.95-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST} AS build
WORKDIR /src
COPY . .
# The tests are a member of the workspace, and no part of the image.
RUN mkdir -p tests/support tests/it tests/model tests/allocations \
    && touch tests/support/lib.rs \
    && for test in it model allocations; do echo 'fn main() {}' >"tests/$test/main.rs"; done
# Registry and target live in caches, so that a second build compiles only what has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --release -p overshot-api -p overshot-worker -p overshot-cli \
    && mkdir -p /out \
    && for program in overshot overshot-api overshot-worker; do \
        strip -o "/out/$program" "target/release/$program"; \
    done

FROM ${RUNTIME} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="overshot" \
    org.opencontainers.image.description="A durable fleet of workers for AI-inference jobs on Redis Streams" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/overshot/
ENV PATH=/usr/local/bin:/usr/bin:/bin
# A number: Kubernetes cannot tell that a name is not root.
USER 65532:65532
WORKDIR /tmp
# Whichever of the programs runs here; there is no shell and no curl.
HEALTHCHECK --interval=10s --timeout=8s --start-period=10s --retries=3 CMD ["overshot", "probe"]
STOPSIGNAL SIGTERM

FROM runtime AS worker
EXPOSE 8081
CMD ["overshot-worker"]

FROM runtime AS cli
HEALTHCHECK NONE
ENTRYPOINT ["overshot"]
CMD ["--help"]

FROM runtime AS api
EXPOSE 8080
CMD ["overshot-api"]
