//! The sweep against the real Apache Kafka: in the clear, and under TLS with every SASL mechanism. What is acknowledged is
//! read back from Kafka as well.
//!
//! Java machines are slow to start and Kafka may have to be fetched first, so the test runs where `MINISR_REQUIRE_KAFKA=1`
//! asks for it; elsewhere it says that it was left out.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use minisr_cluster::{Cluster, ClusterOptions, Driver, KafkaInstallation, Ports};
use serde_json::Value;

const PASSWORD: &str = "alice's secret";

/// Somebody else could take them in between; nobody does on the machine of a test.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// One broker with two doors: in the clear, and under TLS for those who say who they are.
async fn start(dir: &Path, installation: &KafkaInstallation, [clear, guarded, control]: [u16; 3]) -> Cluster {
    let cluster_dir = dir.join("cluster");
    let (broker, host) = (cluster_dir.join("broker-1"), "127.0.0.1");
    let login = "org.apache.kafka.common.security";
    let options = ClusterOptions {
        dir: Some(cluster_dir.clone()),
        driver: Driver::Kafka,
        ports: Ports { quic: None, tcp: Some(clear - 1), control: Some(control - 1) },
        remove_dir: true,
        ..ClusterOptions::new(1)
    }
    .set("listeners", format!("PLAINTEXT://{host}:{clear},SASL_SSL://{host}:{guarded},CONTROLLER://{host}:{control}"))
    .set("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT")
    .set("ssl.keystore.type", "PEM")
    .set("ssl.keystore.location", broker.join("keystore.pem").display())
    .set("ssl.truststore.type", "PEM")
    .set("ssl.truststore.location", cluster_dir.join("ca.pem").display())
    .set("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
    .set(
        "listener.name.sasl_ssl.plain.sasl.jaas.config",
        format!("{login}.plain.PlainLoginModule required user_alice=\"{PASSWORD}\";"),
    )
    .set("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", format!("{login}.scram.ScramLoginModule required;"))
    .set("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", format!("{login}.scram.ScramLoginModule required;"));
    let cluster = Cluster::start(options).await.unwrap();
    // Kafka works the keys of SCRAM out itself, with its own tool, one at a time.
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut tool = installation.tool(&broker.join("log4j2.properties"), "kafka.admin.ConfigCommand");
        tool.args(["--bootstrap-server", &format!("{host}:{clear}"), "--alter", "--entity-type", "users"]);
        let key = format!("{mechanism}=[password={PASSWORD}]");
        let output = tool.args(["--entity-name", "alice", "--add-config", &key]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    cluster
}

fn sweep(output: &Path, port: u16, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_minisr-loadgen");
    let mut command = Command::new(program);
    command.args(["sweep", "--bootstrap", &format!("127.0.0.1:{port}"), "--transport", "tcp", "--json"]);
    command.args(["--acks", "all", "--replication-factor", "1", "--partitions", "2", "--phases", "max"]);
    command.args(["--warmup", "0", "--max-duration", "0.7", "--no-ceiling", "--output"]).arg(output);
    command.args(arguments).env_remove("MINISR_SASL_PASSWORD").output().unwrap()
}

/// The one row, whose records were all read back.
fn row(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = rows[0].clone();
    let number = |column: &str| row[column].as_f64().unwrap_or_else(|| panic!("{column} is missing in {row}"));
    assert!(number("acked") > 0.0 && number("verified_records") >= number("acked"), "{row}");
    assert_eq!(number("acked_lost"), 0.0, "{row}");
    row
}

#[tokio::test]
async fn kafka_in_the_clear_and_under_tls_with_every_sasl_mechanism_is_swept_and_read_back() {
    if std::env::var_os("MINISR_REQUIRE_KAFKA").is_none_or(|value| value != "1") {
        eprintln!("left out: MINISR_REQUIRE_KAFKA=1 runs it; it needs Java 17, and Maven the first time");
        return;
    }
    let installation = KafkaInstallation::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ports = free_ports();
    let cluster = start(dir.path(), &installation, ports).await;
    let results = dir.path().join("results");
    let [clear, guarded, _] = ports;

    let in_the_clear = row(&sweep(&results, clear, &["--target", "kafka", "--name", "clear"]));
    assert_eq!(in_the_clear["target"], "kafka");

    let ca = cluster.ca_path().display().to_string();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (right, wrong) = (file("right", &format!("{PASSWORD}\n")), file("wrong", "bob's secret\n"));
    let as_alice = |mechanism: &str, password: &Path, name: &str| {
        let password = password.display().to_string();
        let flags = ["--ca", &ca, "--sasl-username", "alice", "--sasl-password-file", &password];
        sweep(&results, guarded, &[&flags[..], &["--sasl-mechanism", mechanism, "--name", name]].concat())
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        row(&as_alice(mechanism, &right, mechanism));
        let manifest = std::fs::read_to_string(results.join(mechanism).join("manifest.json")).unwrap();
        assert!(manifest.contains(mechanism) && manifest.contains("SASL_SSL"), "{manifest}");
        assert!(!manifest.contains(PASSWORD), "the password is nobody's business");
    }
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let refused = as_alice(mechanism, &wrong, "refused");
        let sentence = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{sentence}");
        assert!(sentence.contains("SASL authentication as 'alice' failed"), "{sentence}");
    }
    cluster.destroy().await.unwrap();
}
