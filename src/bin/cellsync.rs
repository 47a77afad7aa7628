//! `cellsync`; see the library's `cli::tool`.

fn main() -> std::process::ExitCode {
    cellsync::cli::tool()
}
