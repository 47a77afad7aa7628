//! The program `cellsync`. See [`cellsync::cli::cellsync`].

fn main() -> std::process::ExitCode {
    cellsync::cli::cellsync()
}
