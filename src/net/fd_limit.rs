//! The limit on open file descriptors, and the number of connections that fit under it.
//!
//! The gateway must stay below the limit: the accept loop of `tiny_http` ends when it reaches it.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that one connection takes during an exchange: the client's socket, the gateway's end of the upstream
/// connection, `tiny_http`'s end, which it duplicates, and the file that is read or written.
pub const PER_CONNECTION: u64 = 5;

/// Raises the soft limit on open descriptors to `want`, or as close to it as the hard limit allows. Never lowers it.
/// Returns the limit now in force.
pub fn raise(want: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    // `None` means no limit.
    let Some(soft) = limit.current else { return Ok(u64::MAX) };
    let reachable = limit.maximum.map_or(want, |hard| hard.min(want));
    if reachable <= soft {
        return Ok(soft);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum: limit.maximum })?;
    Ok(reachable)
}

/// The number of connections that fit under a limit of `descriptors`, of which `elsewhere` are reserved for the rest of
/// the process (store, UDP sockets, requests to other cells). At least one.
pub fn connections_that_fit(descriptors: u64, elsewhere: u64) -> usize {
    let fit = descriptors.saturating_sub(elsewhere) / PER_CONNECTION;
    usize::try_from(fit).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = raise(0).unwrap();
        let hard = getrlimit(Resource::Nofile).maximum;
        let want = before.saturating_add(1);
        let now = raise(want).unwrap();
        assert_eq!(now, hard.map_or(want, |hard| hard.min(want)).max(before));
        assert_eq!(raise(1).unwrap(), now);
    }

    #[test]
    fn connections_follow_from_descriptors() {
        assert_eq!(connections_that_fit(1024, 128), 179);
        assert_eq!(connections_that_fit(64, 128), 1);
        assert_eq!(connections_that_fit(4096, 128), 793);
    }
}
