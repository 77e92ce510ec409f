//! The program `minisr-cluster` as a person uses it, with a broker that is a shell script.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const BROKER: &str = r#"#!/bin/sh
trap 'exit 0' TERM
echo "ready id=x quic=x tcp=y"
while :; do sleep 0.05; done
"#;

fn cluster(dir: &Path, arguments: &[&str]) -> Output {
    let broker = dir.join("fake-broker");
    if !broker.exists() {
        fs::write(&broker, BROKER).unwrap();
        fs::set_permissions(&broker, fs::Permissions::from_mode(0o755)).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_minisr-cluster"))
        .args(arguments)
        .arg("--dir")
        .arg(dir.join("cluster"))
        .env("MINISR_BROKER", broker)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn command_up_status_kill_start_down_tells_the_story() {
    let dir = tempfile::tempdir().unwrap();
    let up = cluster(dir.path(), &["up", "--brokers", "2", "--set", "num.partitions=6", "--flush", "commit"]);
    assert!(up.status.success(), "{}", text(&up.stderr));
    let ready = text(&up.stdout);
    assert!(ready.starts_with("ready quic=127.0.0.1:") && ready.lines().count() == 1, "{ready}");
    let properties = fs::read_to_string(dir.path().join("cluster/broker-1/broker.properties")).unwrap();
    assert!(properties.contains("num.partitions=6\n") && properties.contains("log.flush.policy=commit\n"));

    assert!(cluster(dir.path(), &["kill", "2"]).status.success());
    assert!(!cluster(dir.path(), &["pause", "2"]).status.success());
    let status: serde_json::Value = serde_json::from_slice(&cluster(dir.path(), &["status", "--json"]).stdout).unwrap();
    assert_eq!(status["brokers"][1]["state"], "killed");
    assert!(cluster(dir.path(), &["start", "2"]).status.success());
    assert!(text(&cluster(dir.path(), &["status"]).stdout).contains("running"));
    assert!(cluster(dir.path(), &["stop", "all"]).status.success());
    assert!(cluster(dir.path(), &["start", "all"]).status.success());
    assert!(cluster(dir.path(), &["down"]).status.success());
    assert!(!dir.path().join("cluster").exists());
}

#[test]
fn command_fixed_port_in_use_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let up = cluster(dir.path(), &["up", "--brokers", "3", "--tcp-port", &(port - 1).to_string()]);
    assert_eq!(up.status.code(), Some(1));
    assert!(text(&up.stderr).contains(&format!("port {port}")), "{}", text(&up.stderr));
    assert!(text(&cluster(dir.path(), &["status"]).stderr).contains("no cluster"));
    assert!(!dir.path().join("cluster").exists(), "nothing is left behind");
}

#[test]
fn command_wrong_flag_exits_with_1() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(cluster(dir.path(), &["up", "--brokerz", "3"]).status.code(), Some(1));
    assert_eq!(cluster(dir.path(), &["up", "--set", "novalue"]).status.code(), Some(1));
    assert_eq!(cluster(dir.path(), &["--version"]).status.code(), Some(0));
}

#[test]
fn command_without_a_cluster_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["kill", "1"], &["down"]] {
        let output = cluster(dir.path(), command);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("minisr-cluster up"), "{}", text(&output.stderr));
    }
}

#[test]
fn command_kafka_without_java_or_with_an_old_one_says_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let up = |path: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minisr-cluster"));
        command.args(["up", "--kafka", "--dir"]).arg(dir.path().join("cluster"));
        command.env("PATH", path).env_remove("JAVA_HOME").env_remove("MINISR_KAFKA_JARS").output().unwrap()
    };
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let without = up(&empty);
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).contains("Java 17"), "{}", text(&without.stderr));

    let old = dir.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("java"), "#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n").unwrap();
    fs::set_permissions(old.join("java"), fs::Permissions::from_mode(0o755)).unwrap();
    let with_old = up(&old);
    assert!(text(&with_old.stderr).contains("version 11.0.2"), "{}", text(&with_old.stderr));
    assert_eq!(text(&with_old.stderr).lines().count(), 1, "one sentence");
    assert!(!dir.path().join("cluster").exists(), "nothing was made");
}

#[test]
fn command_kafka_without_maven_says_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("path");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("java"), "#!/bin/sh\necho 'openjdk version \"17.0.1\" 2021-10-19' >&2\n").unwrap();
    fs::set_permissions(path.join("java"), fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_minisr-cluster"))
        .args(["up", "--kafka", "--dir"])
        .arg(dir.path().join("cluster"))
        .env("PATH", &path)
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env_remove("JAVA_HOME")
        .env_remove("MINISR_KAFKA_JARS")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("Maven") && text(&output.stderr).contains("`mvn`"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn command_in_a_directory_that_cannot_be_made_says_why_once_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cluster"), "a file").unwrap();
    let up = cluster(dir.path(), &["up", "--brokers", "1"]);
    assert_eq!(up.status.code(), Some(1));
    assert_eq!(text(&up.stderr).matches("os error").count(), 1, "{}", text(&up.stderr));
    assert_eq!(fs::read_to_string(dir.path().join("cluster")).unwrap(), "a file");
}
