//! The program `cellsync-get`. See [`cellsync::cli::get`].

fn main() -> std::process::ExitCode {
    cellsync::cli::get()
}
