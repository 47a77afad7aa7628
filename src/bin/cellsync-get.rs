//! `cellsync-get`; see the library's `cli::get`.

fn main() -> std::process::ExitCode {
    cellsync::cli::get()
}
