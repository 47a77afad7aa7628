//! `cellsync-put`; see the library's `cli::put`.

fn main() -> std::process::ExitCode {
    cellsync::cli::put()
}
