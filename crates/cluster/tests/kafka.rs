//! `minisr-cluster up --kafka` as a person uses it, with the real Apache Kafka.
//!
//! Java machines are slow to start and Kafka may have to be fetched first, so the test runs where `MINISR_REQUIRE_KAFKA=1`
//! asks for it; elsewhere it says that it was left out.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn cluster(dir: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_minisr-cluster");
    Command::new(program).args(arguments).arg("--dir").arg(dir.join("cluster")).output().unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(dir: &Path) -> Value {
    serde_json::from_str(&done(&cluster(dir, &["status", "--json"]))).unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn kafka_up_kill_start_pause_resume_stop_wipe_down_tells_the_story() {
    if std::env::var_os("MINISR_REQUIRE_KAFKA").is_none_or(|value| value != "1") {
        eprintln!("left out: MINISR_REQUIRE_KAFKA=1 runs it; it needs Java 17, and Maven the first time");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ready = done(&cluster(dir, &["up", "--kafka", "--set", "num.partitions=6"]));
    assert!(ready.starts_with("ready tcp=127.0.0.1:") && ready.lines().count() == 1, "{ready}");
    // Whatever the test finds, nothing of it keeps running.
    let _down = Down(dir);

    let seen = status(dir);
    assert_eq!(seen["driver"], "kafka");
    assert!(seen["controller"].is_i64(), "{seen}");
    assert!(
        seen["brokers"].as_array().unwrap().iter().all(|broker| broker["ready"] == true && broker["quic"].is_null())
    );
    let properties = std::fs::read_to_string(dir.join("cluster/broker-1/broker.properties")).unwrap();
    assert!(properties.contains("num.partitions=6\n"), "{properties}");

    done(&cluster(dir, &["kill", "2"]));
    assert_eq!(status(dir)["brokers"][1]["state"], "killed");
    done(&cluster(dir, &["start", "2"]));
    assert_eq!(status(dir)["brokers"][1]["ready"], true);

    done(&cluster(dir, &["pause", "3"]));
    assert_eq!(status(dir)["brokers"][2]["state"], "paused");
    done(&cluster(dir, &["resume", "3"]));
    assert_eq!(status(dir)["brokers"][2]["state"], "running");

    done(&cluster(dir, &["stop", "1"]));
    assert_eq!(status(dir)["brokers"][0]["state"], "stopped");
    // An empty disk is formatted again before the broker starts.
    done(&cluster(dir, &["wipe", "1"]));
    done(&cluster(dir, &["start", "1"]));
    assert_eq!(status(dir)["brokers"][0]["ready"], true);

    let refused = refusal(&cluster(dir, &["add"]));
    assert!(refused.contains("minisr brokers") && refused.contains("Apache Kafka"), "{refused}");

    done(&cluster(dir, &["stop", "all"]));
    assert!(status(dir)["brokers"].as_array().unwrap().iter().all(|broker| broker["state"] == "stopped"));
    done(&cluster(dir, &["down"]));
    assert!(!dir.join("cluster").exists());
}

struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if self.0.join("cluster").exists() {
            cluster(self.0, &["down"]);
        }
    }
}
