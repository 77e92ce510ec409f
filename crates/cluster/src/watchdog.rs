//! A small process that outlives us by a moment: it kills the brokers of an embedded cluster when its standard input
//! ends, which happens even when we are killed with SIGKILL.
//!
//! (The kernel's parent-death signal is tied to the *thread* that started the child, and threads of a runtime come and
//! go, so it would kill brokers at random.)

use std::io::Write;
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

    pub(crate) fn add(&mut self, pid: i32) {
        self.say(&format!("add {pid}\n"));
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
