//! The program `cellsync`. See [`cellsync::cli::tool`].

fn main() -> std::process::ExitCode {
    cellsync::cli::tool()
}
