# Recipes for developers. The checks are the steps of `.ci/run`, so a check is defined once. See .github/CONTRIBUTING.md.

# `cross` reads Cross.toml unless this is set.
export CROSS_CONFIG := "cross.toml"

# What must pass before a commit: all of .ci/run except the demo and the packages. Tests that need root with loop devices
# or network namespaces, or Python with `cryptography`, skip with a message where those are missing.
check:
    .ci/run fmt clippy clippy_dist oldest_rust doc deny tests

# Everything that must pass before a change lands.
ci:
    .ci/run

test:
    .ci/run tests

# With the advisories, so it needs the network. Install once with `cargo install --locked cargo-deny`.
deny:
    cargo deny --locked check

# Measure what the project promises: all sections, or some of put, get, small, memory, idle.
bench *sections:
    cargo bench --locked -- {{sections}}

# A colony on this machine: store, kill cells, heal, restore.
demo *options:
    cargo run --locked --release --bin cellsync -- demo {{options}}

# The colony in virtual time, larger or longer than in the tests.
sim cells="2000" minutes="10" seed="1":
    CELLS={{cells}} MINUTES={{minutes}} SEED={{seed}} cargo test --locked --release --test sim a_thousand_cells -- --nocapture

# Write the traces of all simulated worlds to target/traces.txt, sorted. A refactoring must leave the file unchanged;
# renaming a test may change the first column only.
traces:
    rm -f target/traces.txt
    TRACES=target/traces.txt cargo test --locked --test sim
    LC_ALL=C sort -o target/traces.txt target/traces.txt

# Write the manual pages and shell completions of the packages.
pages folder="target/pages":
    cargo run --locked --example pages -- {{folder}}

# Compile the four programs for amd64, arm64 or armhf, on Debian. As root it installs missing compilers.
compile arch="arm64":
    packaging/compile.sh {{arch}}

# The same with Docker and `cargo install cross`, for aarch64-unknown-linux-gnu or arm-unknown-linux-gnueabi. This recipe is
# untested; the packages are built by `just compile`.
cross target="aarch64-unknown-linux-gnu":
    cross build --profile dist --no-default-features --locked --bins --target {{target}}

# Build both packages for each architecture, check them, and install those of this machine's architecture on test boards.
# Needs root on Debian.
packages *archs="amd64":
    packaging/build.sh {{archs}}
    lintian --allow-root --fail-on error,warning target/packages/*.deb
    packaging/test-install.sh

# Put and restore a tree of every kind of entry, as root: by cellsync-get, GNU tar and bsdtar, compared by rsync.
tree entries="100000":
    ENTRIES={{entries}} cargo test --locked --test colony a_tree_of_every_kind -- --nocapture
