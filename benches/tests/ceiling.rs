//! The ceiling as a program: every transport and replication factor moves bytes, bad flags are refused, nothing stays.

use std::process::{Command, Output};

fn ceiling(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_minisr-ceiling")).args(arguments).output().unwrap()
}

#[test]
fn ceiling_moves_bytes_over_every_transport_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let directory_name = directory.path().to_str().unwrap();
    for (transport, replication_factor) in [("quic", "3"), ("quic", "1"), ("tcp", "2"), ("tcp-tls", "3")] {
        let common = ["--json", "--duration", "0.3", "--warmup", "0.1", "--directory", directory_name];
        let flags = ["--transport", transport, "--replication-factor", replication_factor, "--file-mib", "8"];
        let output = ceiling(&[&common[..], &flags[..]].concat());
        assert!(output.status.success(), "{transport}: {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["acked_frames"].as_u64().unwrap() > 0);
        assert_eq!(report["bytes_in_flight"], 64 * 65536);
        assert_eq!(report["transport"], transport);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "ring files and certificate are removed");
}

#[test]
fn ceiling_ping_pong_has_one_frame_in_flight() {
    let output = ceiling(&["--json", "--mode", "ping-pong", "--duration", "0.3", "--warmup", "0.1"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["in_flight"].as_u64(), report["batch_bytes"].as_u64()), (Some(1), Some(1024)));
    let latency = &report["latency_us"];
    assert!(latency["p50"].as_u64().unwrap() <= latency["p99"].as_u64().unwrap());
}

#[test]
fn ceiling_receive_takes_what_the_node_sends() {
    for transport in ["quic", "tcp"] {
        let common = ["--json", "--duration", "0.3", "--warmup", "0.1", "--replication-factor", "1"];
        let output = ceiling(&[&common[..], &["--mode", "receive", "--transport", transport]].concat());
        assert!(output.status.success(), "{transport}: {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["acked_frames"].as_u64().unwrap() > 0);
        assert_eq!(report["mode"], "receive");
    }
}

#[test]
fn ceiling_refuses_what_it_cannot_run_with_one_sentence() {
    for flags in
        [["--replication-factor", "4"], ["--congestion", "system"], ["--in-flight", "0"], ["--mode", "receive"]]
    {
        let output = ceiling(&flags);
        assert_eq!(output.status.code(), Some(1));
        let sentence = String::from_utf8(output.stderr).unwrap();
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
        assert!(sentence.contains(flags[0]), "{sentence}");
    }
}
