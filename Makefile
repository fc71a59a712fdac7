# The verbs of a day. `make run` and `make test` do all their own set-up.
.DEFAULT_GOAL := help
.PHONY: help run test lint bench scale coverage fuzz slow clients tokens strangers lint-certificates docs package package-test image boot-test arm64 power-cuts reproducible container container-test former

FUZZ ?=
FUZZ_SECONDS ?= 60
BENCH ?=
CLIENT ?=
TOKEN ?=
BENCH_PROFILE ?= release
PROGRAM ?=
UPDATE_KEY ?=
BOOT ?=
ARM64 ?=
ARCH ?=
CUTS ?=
# The newest commit of the release before this one.
FORMER ?= 18874e6

help: ## Lists the verbs
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: ## A CA in .lab/ with its keys in SoftHSM2, a first device enrolled, served until Ctrl-C
	@images/packages.sh run
	@images/lab.sh

test: ## Every suite, the long ones scaled down
	@images/packages.sh test
	@tests/clients/tools.sh
	@tests/monitoring/tools.sh
	cargo test

lint: ## Format, clippy, shell syntax
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	@for script in hsm/*.sh images/*.sh tests/*.sh tests/clients/*.sh tests/monitoring/*.sh tests/strangers/*.sh tests/tokens/*.sh tests/tokens/*.token tests/faulty-module/*.sh images/debian/*.sh images/debian/p* images/container/*.sh .ci/run; do bash -n "$$script" || exit 1; done
	@for script in images/disk/*.sh images/disk/initrd/*.sh images/disk/initrd/init images/boot-test/*.sh images/boot-test/probe/probe/probe $$(find images/disk/root/usr/lib/chancery-box -type f); do bash -n "$$script" || exit 1; done

bench: ## Orders per second against Pebble and the raw token; the pool against the module; a slow token; BENCH="--clients 1,16 --seconds 3"
	@images/packages.sh bench
	cargo bench --profile $(BENCH_PROFILE) --bench orders -- $(BENCH)
	cargo bench --profile $(BENCH_PROFILE) --bench signer -- $(BENCH)

scale: ## A log of ten years: what appending, starting, finding and verifying cost then; CHANCERY_SCALE=100000: smaller
	cargo bench --profile $(BENCH_PROFILE) --bench scale

coverage: ## Line coverage of src/acme, src/pki and src/validate; needs the compiler's llvm-NN package
	@images/packages.sh test
	@tests/coverage.sh

fuzz: ## Coverage-guided fuzzing of every parser of foreign bytes, FUZZ_SECONDS each; FUZZ=--deep sees into dependencies
	@images/packages.sh fuzz
	@tests/fuzz.sh $(FUZZ) $(FUZZ_SECONDS)

clients: ## A dozen real clients through enrol, renew and revoke; writes docs/clients.md (CLIENT=NAME: one of them)
	@images/packages.sh clients
	@tests/clients/tools.sh all
	CHANCERY_CLIENT="$(CLIENT)" cargo test --test clients the_matrix -- --ignored --nocapture

tokens: ## Every token that runs here through one contract, kryoptic built first; writes docs/tokens.md (TOKEN=NAME: one of them)
	@images/packages.sh tokens
	@tests/tokens/tools.sh
	CHANCERY_TOKENS="$(TOKEN)" cargo test --test tokens the_table -- --ignored --nocapture

strangers: ## C2SP programs of others read the log and cosign it: sumdb, tessera's client, transparency-dev/witness
	@images/packages.sh test
	@tests/strangers/tools.sh
	cargo test --test strangers -- --ignored

lint-certificates: ## pkilint and zlint over leaf, issuing and root certificate
	@images/packages.sh test
	@tests/clients/lint-certificates.sh target/samples

package: ## The Debian package, into target/package: the same bytes from the same sources (ARCH=arm64: cross-built)
	@images/packages.sh $(if $(filter arm64,$(ARCH)),arm64,package)
	$(if $(filter arm64,$(ARCH)),program=$$(images/arm64.sh build --release) && images/arm64.sh package "$$program",images/debian/build.sh)

package-test: ## The package installed, used, upgraded, removed and purged in a minimal Debian (PROGRAM=FILE: not built anew)
	@images/packages.sh package
	package=$$(images/debian/build.sh $(if $(PROGRAM),--program $(PROGRAM))) && images/debian/test.sh "$$package"

image: ## The appliance's disk image and its signed update, into target/image (PROGRAM=FILE: not built anew; UPDATE_KEY=FILE)
	@images/packages.sh image
	images/disk/build.sh $(if $(PROGRAM),--program $(PROGRAM)) $(if $(UPDATE_KEY),--key $(UPDATE_KEY))

boot-test: ## The image in an emulated machine: ceremony, a device that enrols, an update, a broken one (BOOT=--short: no update; BOOT=--console: no seed)
	@images/packages.sh boot
	images/boot-test/run.sh $(BOOT)

arm64: ## The program for 64-bit Arm, and with it a ceremony and an enrolment under qemu-user, and its package (ARM64=--release: as it ships)
	@images/packages.sh arm64
	program=$$(images/arm64.sh build $(ARM64)) && images/arm64.sh run "$$program" && images/arm64.sh package "$$program" --quick

power-cuts: ## The image under load, cut off: 50 crashed disks judged, three started again (CUTS="--points 8 --boots 0"; PROGRAM=FILE)
	@images/packages.sh boot
	images/boot-test/run.sh --power-cuts $(if $(PROGRAM),--program $(PROGRAM)) $(CUTS)

reproducible: ## Program, package and image built twice from two directories, octet by octet the same (PROGRAM=FILE: not built anew)
	@images/packages.sh image
	images/reproducible.sh $(if $(PROGRAM),--program $(PROGRAM))

container: ## The container image localhost/chancery, with podman; see images/container/README.md
	images/container/build.sh $(if $(PROGRAM),--program $(PROGRAM))

container-test: ## The container image built and used: ceremony, both containers, a device, attempts to get out (root, podman; PROGRAM=FILE)
	@images/packages.sh container
	images/container/test.sh $(if $(PROGRAM),--program $(PROGRAM))

former: ## The release before this one on a state that this one writes, forth and back (FORMER=COMMIT: another one)
	@images/packages.sh test
	former=$$(tests/former.sh $(FORMER)) && CHANCERY_FORMER=$$former cargo test --test formats -- --ignored a_former

slow: ## The suites at full length, about an hour: 50 kills per process, every fault of the token, both linters, every parser fuzzed deep, a million certificates
	@images/packages.sh test
	CHANCERY_KILLS=50 cargo test --test crash -- --nocapture
	CHANCERY_FAULTS=all CHANCERY_FAULTS_TABLE=target/faults.md cargo test --test faults -- --nocapture
	CHANCERY_REVOCATIONS=50000 cargo test --release --test issuer -- --nocapture shards
	CHANCERY_EVERY_BIT=1 cargo test --test tampering
	$(MAKE) former
	$(MAKE) lint-certificates
	$(MAKE) fuzz FUZZ=--deep FUZZ_SECONDS=120
	CHANCERY_SCALE=1000000 $(MAKE) scale

docs: ## Writes the generated tables under docs/ anew
	cargo run -q -- docs --write docs
