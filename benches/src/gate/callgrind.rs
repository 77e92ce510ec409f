//! Runs this program once more under Valgrind's callgrind and reads what it counted inside [`super::minisr_measured`].
//!
//! Why the counts hold on other machines: Valgrind shows a program one of a few made-up CPUs ([`cpu`] names which),
//! whatever the real one can do, so the same code paths are taken for checksums and searches. What it cannot make
//! equal is the C library, whose copying and allocating differ from version to version; its instructions are kept
//! apart from the program's own, by the object file that callgrind names for each.

use std::env;
use std::io;
use std::path::Path;
use std::process::Command;

/// What one run counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Instructions of the program itself.
    pub program: u64,
    /// Instructions of shared libraries: the C library and the dynamic linker.
    pub elsewhere: u64,
    /// What the program printed.
    pub stdout: String,
}

/// Why there is no count.
#[derive(Debug, thiserror::Error)]
pub enum CallgrindError {
    /// Valgrind does not start.
    #[error("cannot run valgrind: {0} (it is a package of that name in Debian and Ubuntu)")]
    Missing(io::Error),
    /// The run failed.
    #[error("{function} failed under valgrind with {status}:\n{stderr}")]
    Failed {
        /// What was run.
        function: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// Its file cannot be read.
    #[error("cannot read what callgrind counted: {0}")]
    Unreadable(#[from] io::Error),
    /// Its file is not what we expect.
    #[error("cannot understand what callgrind counted: {0}")]
    Malformed(String),
}

/// Runs this program under callgrind with `--only function`; its file is written into `directory`.
///
/// # Errors
/// Valgrind is missing, the function fails, or nothing was counted.
pub fn run(directory: &Path, function: &str) -> Result<Profile, CallgrindError> {
    let program = env::current_exe()?;
    let file = directory.join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg("--toggle-collect=*minisr_measured*")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(&program)
        .args(["--only", function]);
    // Nothing of this shell's environment may change what is counted; symbols are bound before anything is.
    command.env_clear().env("LD_BIND_NOW", "1").envs(env::var_os("PATH").map(|path| ("PATH", path)));
    let output = command.output().map_err(CallgrindError::Missing)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CallgrindError::Failed { function: function.to_owned(), status: output.status, stderr });
    }
    let (program, elsewhere) = parse(&std::fs::read_to_string(file)?, &program.to_string_lossy())?;
    Ok(Profile { program, elsewhere, stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
}

/// Adds up the costs in a callgrind file: of the object `program`, and of all others.
fn parse(text: &str, program: &str) -> Result<(u64, u64), CallgrindError> {
    let malformed = |line: &str| CallgrindError::Malformed(format!("unexpected line \"{line}\""));
    let (mut here, mut elsewhere, mut total) = (0, 0, None);
    let mut in_program = false;
    let mut is_of_call = false;
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            in_program = object == program;
        } else if line.starts_with("calls=") {
            // The next line has what the called function cost, which is told again where that function stands.
            is_of_call = true;
        } else if let Some(counted) = line.strip_prefix("totals:") {
            total = Some(counted.trim().parse::<u64>().map_err(|_| malformed(line))?);
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            if std::mem::take(&mut is_of_call) {
                continue;
            }
            let cost = line.split_ascii_whitespace().nth(1).and_then(|cost| cost.parse::<u64>().ok());
            *(if in_program { &mut here } else { &mut elsewhere }) += cost.ok_or_else(|| malformed(line))?;
        }
    }
    match total {
        Some(total) if total == here + elsewhere && here > 0 => Ok((here, elsewhere)),
        Some(total) => Err(CallgrindError::Malformed(format!(
            "{here} instructions of the program and {elsewhere} of others, of {total} in total"
        ))),
        None => Err(CallgrindError::Malformed("there is no total".to_owned())),
    }
}

/// The CPU as this program sees it, by the one feature that tells Valgrind's made-up CPUs apart.
#[must_use]
pub fn cpu() -> String {
    let arch = env::consts::ARCH;
    #[cfg(target_arch = "x86_64")]
    {
        let level = if is_x86_feature_detected!("avx2") {
            "avx2"
        } else if is_x86_feature_detected!("avx") {
            "avx"
        } else if is_x86_feature_detected!("sse4.2") {
            "sse4.2"
        } else {
            "sse2"
        };
        format!("{arch}+{level}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    arch.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
version: 1
events: Ir
fl=main.rs
ob=/bin/gate
fn=minisr_measured
7 10
cob=/lib/libc.so.6
cfn=memcpy
calls=1 0
7 500
8 2

ob=/lib/libc.so.6
fl=???
fn=memcpy
0 500

totals: 512
";

    #[test]
    fn callgrind_costs_are_told_apart_by_object_and_calls_are_not_counted_twice() {
        assert_eq!(parse(FILE, "/bin/gate").expect("a sound file"), (12, 500));
    }

    #[test]
    fn callgrind_file_whose_parts_do_not_add_up_is_refused() {
        let error = parse(&FILE.replace("totals: 512", "totals: 513"), "/bin/gate").expect_err("513");
        assert!(error.to_string().ends_with("12 instructions of the program and 500 of others, of 513 in total"));
    }

    #[test]
    fn callgrind_file_in_which_nothing_of_the_program_was_counted_is_refused() {
        let nothing = "events: Ir\nob=/lib/libc.so.6\nfn=memcpy\n0 5\ntotals: 5\n";
        assert!(parse(nothing, "/bin/gate").is_err());
        assert!(parse("events: Ir\n", "/bin/gate").is_err());
    }
}
