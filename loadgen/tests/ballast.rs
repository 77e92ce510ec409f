//! The ballast as a process: it holds what it says, gives it back when told, and goes with the program that took it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use minisr_loadgen::ballast::{self, Ballast};
use minisr_loadgen::usage::Usage;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_minisr-loadgen"))
}

#[tokio::test]
async fn ballast_is_resident_while_held_and_gone_when_released() {
    let mut ballast = Ballast::new(program(), 64, ballast::PATIENT);
    assert_eq!(ballast.take().await, None, "64 MiB are to be had");
    let pid = ballast.pid().expect("held by a process");
    let held = Usage::read(&[pid]).expect("it lives").rss_bytes;
    assert!(held >= 64 << 20, "{held} bytes are resident");
    ballast.release().await.expect("released");
    assert!(Usage::read(&[pid]).is_none(), "its process is gone, and its memory with it");

    // Taken again for the next measurement.
    assert_eq!(ballast.take().await, None);
    ballast.release().await.expect("released");
    let report = ballast.report();
    assert_eq!((report.releases, report.taken_mib_min), (2, Some(64)));
    assert!(report.first_take_s.is_some() && report.later_take_s_max.is_some());
}

#[tokio::test]
async fn ballast_of_nothing_starts_nothing() {
    let mut ballast = Ballast::new(PathBuf::from("there is no such program"), 0, ballast::PATIENT);
    assert_eq!(ballast.take().await, None);
    assert_eq!(ballast.pid(), None);
    ballast.release().await.expect("nothing to release");
    assert_eq!(ballast.report().releases, 0);
}

#[tokio::test]
async fn ballast_that_cannot_be_taken_is_a_sentence_and_no_failure() {
    let mut ballast = Ballast::new(PathBuf::from("there is no such program"), 64, ballast::PATIENT);
    let sentence = ballast.take().await.expect("a sentence");
    assert!(sentence.contains("cannot be started"), "{sentence}");
    assert_eq!(ballast.report().missing, Some(sentence));
}

#[test]
fn ballast_ends_with_the_program_that_took_it() {
    let mut child = Command::new(program())
        .args(["ballast", "--mib", "8", "--within-s", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    // What the kernel does with the files of a program that was killed.
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}
