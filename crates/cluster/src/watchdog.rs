//! A small process that outlives us by a moment: it kills the brokers of an embedded cluster when its standard input
//! ends, which happens even when we are killed with SIGKILL.
//!
//! (The kernel's parent-death signal is tied to the *thread* that started the child, and threads of a runtime come and
//! go, so it would kill brokers at random.)

use std::io::{self, Cursor, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::ClusterError;

const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=' '
while read -r operation pid; do
    case $operation in
        add) pids="$pids$pid " ;;
        remove) pids="${pids%% $pid *} ${pids#* $pid }" ;;
        forget) exit 0 ;;
    esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
if [ -n "$1" ]; then rm -rf -- "$1"; fi
"#;

pub(crate) struct Watchdog {
    child: Child,
    input: ChildStdin,
}

impl Watchdog {
    /// Starts it. `remove` is the temporary directory to remove when we are gone.
    pub(crate) fn start(remove: Option<&Path>) -> Result<Self, ClusterError> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("minisr-watchdog").arg(remove.unwrap_or(Path::new("")));
        // Its own process group, so that Ctrl-C in the terminal reaches us and not it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(ClusterError::file("start", "sh"))?;
        let input = child.stdin.take().expect("standard input is piped");
        Ok(Self { child, input })
    }

    /// Where a new process announces itself, with [`announce`], before it becomes a broker. Were we to do it, one of
    /// them would outlive us when we are killed at the wrong moment.
    pub(crate) fn inbox(&self) -> Option<OwnedFd> {
        self.input.as_fd().try_clone_to_owned().ok()
    }

    pub(crate) fn remove(&mut self, pid: i32) {
        self.say(&format!("remove {pid}\n"));
    }

    /// Ends the watch without harming anybody.
    pub(crate) fn forget(mut self) {
        self.say("forget\n");
        drop(self.input);
        let _ = self.child.wait();
    }

    /// A watchdog that somebody killed is not a reason to fail: the brokers are still ended on drop.
    fn say(&mut self, line: &str) {
        if let Err(error) = self.input.write_all(line.as_bytes()) {
            tracing::debug!(%error, "the watchdog is gone");
        }
    }
}

/// Says to a watchdog that this process is to be watched. May be called between fork and exec: it takes no memory and
/// no lock. The line is shorter than what a pipe takes at once, so lines of several processes do not mix.
pub(crate) fn announce(inbox: &OwnedFd) -> io::Result<()> {
    let mut line = Cursor::new([0_u8; 32]);
    writeln!(line, "add {}", nix::unistd::getpid())?;
    let len = usize::try_from(line.position()).map_err(io::Error::other)?;
    match nix::unistd::write(inbox, &line.get_ref()[..len]) {
        // A watchdog that somebody killed is not a reason to fail.
        Ok(_) | Err(nix::Error::EPIPE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
