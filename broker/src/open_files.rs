//! How many files this process may have open, and how many of them may be clients' sockets.
//!
//! A log that cannot open its next segment has failed, and its broker stops. So sockets must not use up what logs need,
//! however many clients come: the soft limit is raised as far as the system lets an ordinary process raise it (1,024
//! is a usual start, 524,288 a usual end), and clients get at most half of it. (QUIC needs no file for each client, but
//! memory; one bound for both is enough.)

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of this process and says what it is now.
///
/// # Errors
/// The system does not tell the limit. (That it cannot be raised is no error: it may be enough.)
pub fn raise_limit() -> Result<u64, nix::Error> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// How many clients may be connected at once: half of the files that may be open now.
#[must_use]
pub fn clients_max() -> u64 {
    // Where the system tells no limit there is none.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| (soft / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_limit_is_raised_to_the_hard_one() {
        let raised = raise_limit().expect("every system has a limit");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system has a limit");
        assert_eq!((raised, soft), (hard, hard));
        assert_eq!(clients_max(), raised / 2);
    }
}
