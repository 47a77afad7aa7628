//! The program `cellsync-node`. See [`cellsync::cli::node`].

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    cellsync::cli::node()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    compile_error!(
        "a cell runs on Linux only; on other systems build the clients: --bin cellsync-put --bin cellsync-get"
    );
}
