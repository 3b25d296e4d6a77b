# The everyday commands. `make help` lists them.

CARGO ?= cargo
# `preflight` installs an assembler here if there is none.
export PATH := $(PATH):$(shell scripts/nasm path)

# SIMD code for AVIF where there is an assembler for it. Expanded in recipes, after `preflight`.
SIMD = $(shell scripts/nasm features)

.DEFAULT_GOAL := help
.PHONY: help preflight onnxruntime build build-server demo test test-qdrant check fmt clippy fuzz-check doc deny bench-peers services-up services-down export-env parity fuzz chaos outages sanitize

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r command what; do printf '%-20s %s\n' "$$command" "$$what"; done

demo: preflight onnxruntime ## index the demo catalog and search it; needs no servers
	$(CARGO) run --locked --release $(SIMD) -- demo

build: preflight ## build the release binary in dist/, stripped, with its symbols beside it
	scripts/release

build-server: preflight ## the same without the embedded store, for workers that use a Qdrant server; half the build time
	scripts/release server

# The servers run as long as the tests, unless `make services-up` started them before.
test: preflight onnxruntime ## run all tests, against real servers if they are available on this machine
	scripts/services with $(CARGO) test --locked $(SIMD)

# Existing collections are not touched: every name begins with the run's own prefix, and is deleted at the end.
test-qdrant: preflight onnxruntime ## run store tests, the end-to-end test and a campaign against CLIPSTREAM_TEST_QDRANT_URL (with ..._API_KEY)
	@test -n "$$CLIPSTREAM_TEST_QDRANT_URL" || { echo "make test-qdrant: CLIPSTREAM_TEST_QDRANT_URL is not set; expected Qdrant's gRPC address, for example http://localhost:6334" >&2; exit 2; }
	scripts/services with $(CARGO) test --locked $(SIMD) --test it -- store_conformance store_troubles end_to_end
	$(CARGO) test --locked $(SIMD) --test chaos -- run --minutes $(or $(MINUTES),2) --seed $(or $(SEED),1)

# Uses its own servers, because it crashes them. With MESSAGES and KILLS, it continues until both numbers are reached.
chaos: preflight onnxruntime ## run the fault campaign: make chaos MINUTES=60 [SEED=7] [GUARD=check] [RETRIES=1] [MESSAGES=200000 KILLS=200]
	$(CARGO) test --locked $(SIMD) --test chaos -- run --minutes $(or $(MINUTES),5) --seed $(or $(SEED),1) \
	    --messages $(or $(MESSAGES),0) --kills-min $(or $(KILLS),0) $(if $(GUARD),--guard $(GUARD)) $(if $(RETRIES),--retries) $(if $(JSON),--json $(JSON))

outages: preflight onnxruntime ## test an outage of MINUTES of each dependency, with one worker each: make outages MINUTES=60
	$(CARGO) test --locked $(SIMD) --test chaos -- outages --minutes $(or $(MINUTES),60) $(if $(JSON),--json $(JSON))

sanitize: preflight onnxruntime ## run pictures and the fault campaign with the address sanitizer in C code: make sanitize MINUTES=15 [SEED=7]
	scripts/sanitize pictures $(PICTURES)
	scripts/sanitize campaign --minutes $(or $(MINUTES),15) --seed $(or $(SEED),1) $(if $(JSON),--json $(JSON))

check: preflight fmt clippy fuzz-check doc deny ## check formatting, lints, fuzz targets, documentation, licences

# Peers are installed in the cache folder; several GB for those with torch. CLIPSTREAM=BINARY measures that one, MODEL=DIR an export that is there.
bench-peers: preflight onnxruntime ## measure beside other embedders: make bench-peers [PEERS=worker,fastembed SETS=1200px,texts RUNS=1 JSON=FILE]
	$(if $(CLIPSTREAM),,$(CARGO) build --locked --release $(SIMD))
	bench/peers/run.py $(if $(PEERS),--peers $(PEERS)) $(if $(SETS),--sets $(SETS)) $(if $(RUNS),--runs $(RUNS)) $(if $(ITEMS),--items $(ITEMS)) \
	    $(if $(WAIT),--wait $(WAIT)) $(if $(JSON),--json $(JSON)) $(if $(CLIPSTREAM),--clipstream $(CLIPSTREAM)) $(if $(MODEL),--model $(MODEL))

services-up: ## start Kafka and S3 for the tests and leave them running
	scripts/services up

services-down: ## stop these servers
	scripts/services down

export-env: ## create the Python environment of tools/export_openclip.py and print the path of its Python
	@scripts/export-env

parity: preflight onnxruntime ## compare vectors with OpenCLIP in PyTorch for every architecture (random weights; hours)
	$(CARGO) build --locked --release $(SIMD)
	python=$$(scripts/export-env) && $$python tools/parity.py

fuzz: ## run one fuzz target: make fuzz TARGET=message|url|picture|tokenizer|tokenizer_file SECONDS=60 (fuzz/README.md)
	@fuzz/run "$(TARGET)" "$(or $(SECONDS),60)"

# Parts of the targets above.

preflight:
	@scripts/preflight

onnxruntime:
	@scripts/onnxruntime

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --lib --bins -- -D warnings

# A package of its own with a lock file of its own, in the target folder of the main one: most of it is checked there already.
fuzz-check:
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --no-default-features --target-dir "$${CARGO_TARGET_DIR:-target}"

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

# The advisory database is downloaded from the Internet. If it is unavailable, the rest is still checked.
deny:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	    echo "make deny: cargo-deny is not installed, so licences and advisories are NOT checked (cargo install --locked cargo-deny)"; \
	else \
	    $(CARGO) deny --locked check bans licenses sources && \
	    if $(CARGO) deny --locked fetch db; then $(CARGO) deny --locked check advisories; \
	    else echo "make deny: the advisory database cannot be downloaded, so advisories are NOT checked"; fi; \
	fi
