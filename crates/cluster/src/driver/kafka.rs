//! Apache Kafka in KRaft mode: each process is a broker and a controller, as each of minisr's is.
//!
//! A broker runs with Kafka's own defaults and the options of its own start script, except for what three of them on one
//! machine need: addresses, directories, a smaller heap, and internal topics that fit the number of brokers. Log4j2
//! writes warnings to standard error (the broker's log) and the one line that says *started* to standard output.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::Program;
use super::kafka_install::{KafkaError, KafkaInstallation};
use crate::error::ClusterError;
use crate::layout::{Description, Layout};
use crate::options::FlushPolicy;
use crate::process;

/// Kafka's own variable for the heap of a broker.
const HEAP_VARIABLE: &str = "KAFKA_HEAP_OPTS";

/// Kafka's script takes 1 GiB; three brokers beside their load do well with half of it, and use less memory.
const HEAP_DEFAULT: &str = "-Xms512m -Xmx512m";

/// What Kafka's own start script passes to the Java machine.
const JVM_OPTIONS: &[&str] = &[
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

const LOG4J2: &str = "\
rootLogger.level=WARN
rootLogger.appenderRef.err.ref=ERR
appender.err.type=Console
appender.err.name=ERR
appender.err.target=SYSTEM_ERR
appender.err.layout.type=PatternLayout
appender.err.layout.pattern=%d %p %m (%c)%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
logger.server.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.target=SYSTEM_OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %m (%c)%n
";

/// The last words of a start: the broker is registered, has caught up with the metadata, and is unfenced.
const STARTED: &str = "Kafka Server started";

pub(super) async fn find_program(asked: Option<&Path>) -> Result<Program, ClusterError> {
    if asked.is_some() {
        return Err(ClusterError::Option(
            "--broker-binary names a minisr broker; Kafka's Java machine is found by JAVA_HOME or PATH".to_owned(),
        ));
    }
    let found = tokio::task::spawn_blocking(KafkaInstallation::find).await.expect("finding does not panic")?;
    let heap = std::env::var(HEAP_VARIABLE).unwrap_or_else(|_| HEAP_DEFAULT.to_owned());
    Ok(Program { binary: found.java, jars: Some(found.jars), environment: vec![(HEAP_VARIABLE.to_owned(), heap)] })
}

pub(super) fn properties(layout: &Layout, description: &Description, id: i32) -> Vec<(&'static str, String)> {
    let ports = description.ports[id as usize - 1];
    let copies = description.ports.len().min(3).to_string();
    let listeners =
        format!("PLAINTEXT://{},CONTROLLER://{}", description.address(ports.tcp), description.address(ports.control));
    vec![
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("controller.quorum.voters", description.voters()),
        ("listeners", listeners),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ("log.dirs", layout.data(id).display().to_string()),
        // Internal topics ask for three copies and would wait for ever on a smaller cluster.
        ("offsets.topic.replication.factor", copies.clone()),
        ("transaction.state.log.replication.factor", copies.clone()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("share.coordinator.state.topic.replication.factor", copies),
        ("share.coordinator.state.topic.min.isr", "1".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ]
}

/// Kafka has no policy by name: it flushes by number of records and by time.
pub(super) fn flush_settings(policy: FlushPolicy) -> Vec<(String, String)> {
    let setting = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    match policy {
        FlushPolicy::Never => Vec::new(),
        FlushPolicy::Interval => setting("log.flush.interval.ms", "1000"),
        FlushPolicy::Commit => setting("log.flush.interval.messages", "1"),
    }
}

/// Writes the logging configuration, and formats the log directory if it is empty.
pub(super) async fn prepare(layout: &Layout, description: &Description, id: i32) -> Result<(), ClusterError> {
    let logging = log4j2(layout, id);
    fs::write(&logging, LOG4J2).map_err(ClusterError::file("write", &logging))?;
    if layout.data(id).join("meta.properties").exists() {
        return Ok(());
    }
    let mut format = tokio::process::Command::from(installation(description).tool(&logging, "kafka.tools.StorageTool"));
    format.args(["format", "--cluster-id", &description.cluster_id, "--config"]).arg(layout.properties(id));
    let output = format.output().await.map_err(ClusterError::file("start", &description.binary))?;
    if output.status.success() {
        return Ok(());
    }
    // Evidence, where the broker's own words would be.
    let log = layout.log(id);
    fs::write(&log, [output.stdout, output.stderr].concat()).map_err(ClusterError::file("write", &log))?;
    Err(KafkaError::Format { id, tail: process::tail(&log, 8), log }.into())
}

pub(super) fn arguments(layout: &Layout, description: &Description, id: i32) -> Vec<OsString> {
    let heap = description.environment.iter().rev().find(|(name, _)| name == HEAP_VARIABLE);
    let heap = heap.map_or(HEAP_DEFAULT, |(_, options)| options);
    let mut arguments: Vec<OsString> =
        heap.split_whitespace().chain(JVM_OPTIONS.iter().copied()).map(Into::into).collect();
    arguments.extend(installation(description).class_path(&log4j2(layout, id)));
    arguments.push("kafka.Kafka".into());
    arguments.push(layout.properties(id).into());
    arguments
}

pub(super) fn is_ready(standard_output: &str) -> bool {
    standard_output.lines().any(|line| line.contains(STARTED))
}

fn log4j2(layout: &Layout, id: i32) -> std::path::PathBuf {
    layout.broker(id).join("log4j2.properties")
}

fn installation(description: &Description) -> KafkaInstallation {
    KafkaInstallation {
        java: description.binary.clone(),
        jars: description.jars.clone().expect("a Kafka cluster is described with its jars"),
    }
}
