# Recipes for people; `.ci/run` does the same on a machine that has nothing yet, without just.

# `cross` looks for Cross.toml unless it is told.
export CROSS_CONFIG := "cross.toml"

# What must pass before a commit: all that .ci/run runs but the demo and the packages.
check: fmt clippy test doc deny

fmt:
    cargo fmt --check

clippy:
    cargo clippy --locked --all-targets -- -D warnings

# Some tests need root with loop devices or network namespaces, or Python with `cryptography`; where those are missing
# they say so and pass.
test:
    cargo test

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# With the advisories, so it needs the network. `cargo install --locked cargo-deny` first.
deny:
    cargo deny --locked check

# The figures that are promised, measured here: all, or some of put, get, small, memory, idle.
bench *sections:
    cargo bench --locked -- {{sections}}

# A colony on this machine: stored, cells killed, restored.
demo *options:
    cargo run --locked --release --bin cellsync -- demo {{options}}

# The colony in virtual time, larger or longer than in `just test`.
sim cells="2000" minutes="10" seed="1":
    CELLS={{cells}} MINUTES={{minutes}} SEED={{seed}} cargo test --locked --release --test sim a_thousand_cells -- --nocapture

# The manual pages and shell completions that the packages carry.
pages folder="target/pages":
    cargo run --locked --example pages -- {{folder}}

# The four programs for amd64, arm64 or armhf, on Debian. As root it installs the compilers that are missing.
compile arch="arm64":
    packaging/compile.sh {{arch}}

# The same with Docker and `cargo install cross`, for aarch64-unknown-linux-gnu or arm-unknown-linux-gnueabi. Untested:
# the packages come from `just compile`.
cross target="aarch64-unknown-linux-gnu":
    cross build --release --locked --bins --target {{target}}

# Both packages for each architecture, and for this machine's all that is tried with them. As root, on Debian.
packages *archs="amd64":
    packaging/build.sh {{archs}}
    lintian --allow-root --fail-on error,warning target/packages/*.deb
    packaging/test-install.sh
