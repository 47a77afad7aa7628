//! The program `cellsync-put`. See [`cellsync::cli::put`].

fn main() -> std::process::ExitCode {
    cellsync::cli::put()
}
