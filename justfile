# The recipes people type. `just --list` shows them; CI calls the same ones.

set shell := ["bash", "-euo", "pipefail", "-c"]

export RUST_BACKTRACE := env("RUST_BACKTRACE", "1")

target := env("CARGO_TARGET_DIR", justfile_directory() / "target")

# what this is
[private]
default:
    @just --list --unsorted

# build what `bench` and `chaos` run, optimised
build:
    cargo build --release --locked -p minisr-broker -p minisr-cluster -p minisr-loadgen -p minisr-chaos -p minisr-benches --bins

# sweep acks × replication factor × min.insync.replicas on an embedded three-broker cluster (less than 5 minutes)
bench *ARGS: build
    {{ target }}/release/minisr-loadgen sweep {{ ARGS }}

# minisr over TCP and QUIC beside Apache Kafka (needs Java 17 and mvn), in one run, and the README's table (about 18 minutes)
bench-peers *ARGS: build
    {{ target }}/release/minisr-loadgen peers --readme README.md {{ ARGS }}

# everything that must pass: unit, story and property tests, real processes, 500 simulated seeds, a chaos smoke run
test: _binaries
    cargo test --workspace --locked
    just sim 500
    {{ target }}/debug/minisr-chaos run --smoke

# two minutes of kill -9 on a live cluster, then the proof that nothing committed is lost
chaos *ARGS: build
    {{ target }}/release/minisr-chaos run {{ ARGS }}

# kill leaders and controllers 60 times under load: how long until writes are taken again, stage by stage (5 minutes)
failover *ARGS: build
    {{ target }}/release/minisr-chaos run --profile failover --out results/failover {{ ARGS }}

# run SEEDS seeds of the simulator, each twice
sim SEEDS="500" *ARGS:
    cargo run --locked -q -p minisr-simulator --bin minisr-sim -- --seeds {{ SEEDS }} {{ ARGS }}

# plant historical bugs one at a time: which invariant catches each, and after how many seeds (about 20 minutes)
zoo *ARGS:
    cargo run --profile zoo --locked -q -p minisr-simulator --features zoo --bin minisr-zoo -- {{ ARGS }}

# try every interleaving of three replicas within bounds, up to 1.5 million transitions each (a few minutes; says whether all were tried)
model *ARGS="--preset all --max 1500000":
    cargo run --locked -q -p minisr-model --bin minisr-model -- {{ ARGS }}

# measure what survives how many losses, simulated and with processes, and write it into README.md (about 8 minutes)
durability-table *ARGS: build
    cargo run --release --locked -q -p minisr-simulator --bin minisr-durability -- \
        table --chaos {{ target }}/release/minisr-chaos {{ ARGS }}

# replay one seed with its trace
sim-replay SEED *ARGS:
    cargo run --locked -q -p minisr-simulator --bin minisr-sim -- --seed {{ SEED }} --trace {{ ARGS }}

# run a saved story of the simulator (crates/simulator/scenarios)
sim-story FILE *ARGS:
    cargo run --locked -q -p minisr-simulator --bin minisr-sim -- --scenario {{ FILE }} {{ ARGS }}

# a small measured story: isr-shuttle shows why the in-sync set is not judged by number of records
experiment NAME="isr-shuttle" *ARGS: build
    {{ target }}/release/minisr-loadgen experiment {{ NAME }} {{ ARGS }}

# how far it reaches: rows of docs/PERFORMANCE.md against their yardsticks, all or e.g. `just reach 1,2` (results/reach)
reach ROWS="" *ARGS: build
    {{ target }}/release/minisr-loadgen reach {{ if ROWS == "" { "" } else { "--row " + ROWS } }} {{ ARGS }}

# write the HTML report of a run again (default: the newest)
report *ARGS: build
    {{ target }}/release/minisr-loadgen report {{ ARGS }}

# compare two runs
compare A B: build
    {{ target }}/release/minisr-loadgen compare {{ A }} {{ B }}

# the ceiling of this machine: the same bytes through the same hops, and nothing else
ceiling *ARGS: build
    {{ target }}/release/minisr-ceiling {{ ARGS }}

# foreign clients at a real cluster: kafka-python, librdkafka, and Java's where Maven is installed (needs Python 3)
interop: build
    scripts/interop/run {{ target }}/release

# allocations and instructions of the hot paths against the committed counts: exit code 2 when worse; --bless commits new ones (needs valgrind)
bench-gate *ARGS:
    #!/usr/bin/env bash
    set -uo pipefail
    status=0
    for counts in allocations instructions; do
        cargo bench --locked -q -p minisr-benches --bench "$counts" -- {{ ARGS }} || status=$?
    done
    exit "$status"

# criterion benches of the parts; `--bench kernel`: what the kernel alone takes for replicated bytes, by several calls
bench-parts *ARGS:
    cargo bench --locked -p minisr-benches {{ ARGS }}

# what must hold before a commit lands; edits nothing
check: && deny
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    # Which `--all-targets` leaves out, as `cargo bench` does.
    cargo clippy --locked -p minisr-benches --bench allocations --bench instructions --bench kernel -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    scripts/dependency-direction
    scripts/zoo-absent

# licences, duplicate versions and sources of every dependency (needs cargo-deny)
deny:
    @if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
     else echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny --locked); hosted CI runs it"; fi

# known vulnerabilities of every dependency (needs cargo-deny and its advisory database)
advisories:
    cargo deny --locked check advisories

# what `check` would complain about, mended where a tool can
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# the binaries that process tests start
_binaries:
    cargo build --locked -p minisr-broker -p minisr-cluster -p minisr-chaos -p minisr-loadgen -p minisr-benches --bins
