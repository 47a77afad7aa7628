//! File descriptors: how many the process may have, and how many connections fit in them.
//!
//! The door has to hold below the limit: `tiny_http`'s accept loop ends when it meets it.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that one connection under service takes: the client's socket, the door's end of the private line, and
/// `tiny_http`'s end, which it holds twice; and one more for the file that is being read or written.
pub const PER_CONNECTION: u64 = 5;

/// Raises the soft limit of open descriptors to `want`, or as near to it as the hard limit allows. Never lowers it.
/// Returns the limit that is now in force.
pub fn raise(want: u64) -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is written as none.
    let Some(soft) = limit.current else { return Ok(u64::MAX) };
    let reachable = limit.maximum.map_or(want, |hard| hard.min(want));
    if reachable <= soft {
        return Ok(soft);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum: limit.maximum })?;
    Ok(reachable)
}

/// How many connections fit under a limit of `descriptors`, when `elsewhere` of them are for the rest of the process
/// (its store, logs, discovery, and its own calls to other cells). At least one.
pub fn connections_that_fit(descriptors: u64, elsewhere: u64) -> usize {
    let fit = descriptors.saturating_sub(elsewhere) / PER_CONNECTION;
    usize::try_from(fit).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_goes_up_and_never_down() {
        let before = raise(0).unwrap();
        let hard = getrlimit(Resource::Nofile).maximum;
        let want = before.saturating_add(1);
        let now = raise(want).unwrap();
        assert_eq!(now, hard.map_or(want, |hard| hard.min(want)).max(before));
        assert_eq!(raise(1).unwrap(), now);
    }

    #[test]
    fn few_descriptors_mean_few_connections() {
        assert_eq!(connections_that_fit(1024, 128), 179);
        assert_eq!(connections_that_fit(64, 128), 1);
        assert_eq!(connections_that_fit(4096, 128), 793);
    }
}
