//! Starts leader and followers, runs the producer in this process, and cleans up.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::link;
use super::options::Options;
use super::producer;
use super::report::Report;

/// A started process that is killed, by its process id, when this is dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // It has normally ended by itself; both calls then do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the ceiling once. `program` is the `minisr-ceiling` binary, which is started again for leader and followers.
///
/// Must be awaited on the thread that lives as long as the program: children die with the thread that started them.
pub async fn run(options: &Options, program: &Path) -> Result<Report> {
    options.check()?;
    tokio::time::timeout(options.time_limit(), run_bounded(options, program))
        .await
        .context("the run took longer than its time limit")?
}

async fn run_bounded(options: &Options, program: &Path) -> Result<Report> {
    let base = options.directory.clone().unwrap_or_else(std::env::temp_dir);
    let directory = Directory(base.join(format!("minisr-ceiling-{}", std::process::id())));
    std::fs::create_dir_all(&directory.0)
        .with_context(|| format!("the directory {} cannot be created", directory.0.display()))?;
    link::write_certificate(&directory.0)?;

    let mut nodes = Vec::new();
    let mut follower_ports = Vec::new();
    for follower in 1..options.replication_factor {
        let (node, port) = start_node(options, program, &directory.0, &format!("follower-{follower}"), &[])?;
        nodes.push(node);
        follower_ports.push(port);
    }
    let (leader, port) = start_node(options, program, &directory.0, "leader", &follower_ports)?;
    nodes.insert(0, leader);

    let mut pids = vec![std::process::id()];
    pids.extend(nodes.iter().map(|node| node.0.id()));
    let mut cpu_marks: Vec<Vec<f64>> = Vec::new();
    let mark = || cpu_marks.push(pids.iter().map(|pid| cpu_seconds(*pid).unwrap_or(0.0)).collect());
    let measured = producer::produce(options, &directory.0, port, mark).await?;
    wait_for_end(&mut nodes).await;

    let [begin, end] = cpu_marks.as_slice() else { bail!("the measured time has a beginning and an end") };
    let cpu_s: Vec<f64> = begin.iter().zip(end).map(|(begin, end)| end - begin).collect();
    Ok(Report::new(options, &measured, &cpu_s))
}

fn start_node(
    options: &Options,
    program: &Path,
    directory: &Path,
    name: &str,
    followers: &[u16],
) -> Result<(Node, u16)> {
    let mut command = Command::new(program);
    command
        .args(options.to_arguments())
        .arg("node")
        .args(["--parent", &std::process::id().to_string(), "--node-name", name])
        .arg("--node-directory")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for port in followers {
        command.args(["--follower", &port.to_string()]);
    }
    let child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    let mut node = Node(child);
    let stdout = node.0.stdout.take().expect("stdout is piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
    let port = port.with_context(|| format!("the {name} process ended before it said its port"))?;
    Ok((node, port))
}

/// Gives the processes a moment to end by themselves.
async fn wait_for_end(nodes: &mut [Node]) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline && nodes.iter_mut().any(|node| matches!(node.0.try_wait(), Ok(None))) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain spaces; fields are counted behind it. utime and stime are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // What the kernel reports to programs is in hundredths of a second on every architecture.
    Some(ticks / 100.0)
}
