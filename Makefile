# The everyday commands. `make help` lists them.

CARGO ?= cargo
# Where `preflight` puts an assembler, if there is none.
export PATH := $(PATH):$(shell scripts/nasm path)

.DEFAULT_GOAL := help
.PHONY: help preflight onnxruntime build build-server demo test test-qdrant check fmt clippy fuzz-check doc deny bench-peers services-up services-down export-env parity fuzz chaos outages sanitize

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r command what; do printf '%-20s %s\n' "$$command" "$$what"; done

demo: preflight onnxruntime ## index the demo catalog and search it; no servers needed
	$(CARGO) run --locked --release -- demo

build: preflight ## the release binary, stripped, in dist/; its symbols beside it
	scripts/release

build-server: preflight ## the same without the embedded store: half the build, for workers in front of a Qdrant server
	scripts/release server

# The servers run for as long as the tests do, unless `make services-up` started them before.
test: preflight onnxruntime ## all tests, against real servers where this machine can have them
	scripts/services with $(CARGO) test --locked

# What is there already is left alone: every name begins with a prefix of the run's own, and is deleted in the end.
test-qdrant: preflight onnxruntime ## store, end-to-end test and a campaign against the server that CLIPSTREAM_TEST_QDRANT_URL names (and ..._API_KEY)
	@test -n "$$CLIPSTREAM_TEST_QDRANT_URL" || { echo "make test-qdrant: CLIPSTREAM_TEST_QDRANT_URL is not set; expected Qdrant's gRPC address, for example http://localhost:6334" >&2; exit 2; }
	scripts/services with $(CARGO) test --locked --test it -- store_conformance store_troubles end_to_end
	$(CARGO) test --locked --test chaos -- run --minutes $(or $(MINUTES),2) --seed $(or $(SEED),1)

# Servers of its own: it crashes them. MESSAGES and KILLS: it goes on until there were so many.
chaos: preflight onnxruntime ## the fault campaign: make chaos MINUTES=60 [SEED=7] [GUARD=check] [RETRIES=1] [MESSAGES=200000 KILLS=200]
	$(CARGO) test --locked --test chaos -- run --minutes $(or $(MINUTES),5) --seed $(or $(SEED),1) \
	    --messages $(or $(MESSAGES),0) --kills-min $(or $(KILLS),0) $(if $(GUARD),--guard $(GUARD)) $(if $(RETRIES),--retries) $(if $(JSON),--json $(JSON))

outages: preflight onnxruntime ## everything a worker needs is away for MINUTES, each part for a worker of its own: make outages MINUTES=60
	$(CARGO) test --locked --test chaos -- outages --minutes $(or $(MINUTES),60) $(if $(JSON),--json $(JSON))

sanitize: preflight onnxruntime ## pictures, and the fault campaign, on a worker whose C code has the address sanitizer: make sanitize MINUTES=15 [SEED=7]
	scripts/sanitize pictures $(PICTURES)
	scripts/sanitize campaign --minutes $(or $(MINUTES),15) --seed $(or $(SEED),1) $(if $(JSON),--json $(JSON))

check: preflight fmt clippy fuzz-check doc deny ## formatting, lints, documentation, licences; that the fuzz targets compile

bench-peers: preflight onnxruntime ## preprocessing next to Pillow + torchvision, on the same picture in one run
	python=$$(scripts/export-env) && $(CARGO) run --locked --release -- bench preprocess --peers "$$python"

services-up: ## start Kafka and S3 for the tests and leave them running
	scripts/services up

services-down: ## stop them
	scripts/services down

export-env: ## the Python environment of tools/export_openclip.py; prints its python
	@scripts/export-env

parity: preflight onnxruntime ## compare vectors with OpenCLIP in PyTorch for the five full-size models (random weights)
	$(CARGO) build --locked --release
	python=$$(scripts/export-env) && $$python tools/parity.py

fuzz: ## run one fuzz target: make fuzz TARGET=message|url|picture|tokenizer SECONDS=60 (fuzz/README.md)
	@fuzz/run "$(TARGET)" "$(or $(SECONDS),60)"

# What the targets above are made of.

preflight:
	@scripts/preflight

onnxruntime:
	@scripts/onnxruntime

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# A package of its own with a lock file of its own, in the target folder of the main one: most of it is checked there already.
fuzz-check:
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir "$${CARGO_TARGET_DIR:-target}"

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# The advisory database is fetched from the Internet: where it cannot be had, the rest is still checked.
deny:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "make deny: cargo-deny is not installed, so licences and advisories are NOT checked (cargo install --locked cargo-deny)"; \
	else \
	    $(CARGO) deny --locked check bans licenses sources && \
	    if $(CARGO) deny --locked fetch db; then $(CARGO) deny --locked check advisories; \
	    else echo "make deny: the advisory database cannot be fetched, so advisories are NOT checked"; fi; \
	fi
