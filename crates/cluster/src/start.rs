//! Making a cluster: directory, certificates, ports, settings, processes, in this order.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::cluster::{Cluster, Ownership, Slot};
use crate::driver::KafkaError;
use crate::error::ClusterError;
use crate::layout::{Description, Layout};
use crate::options::ClusterOptions;
use crate::ports;
use crate::process;
use crate::watchdog::Watchdog;

/// How often a start is tried again with other ports when somebody took one in between.
const PORT_ATTEMPTS: usize = 5;

impl Cluster {
    /// Makes a cluster and waits until all brokers are registered and unfenced.
    ///
    /// On failure nothing is left running, and nothing on disk but the logs of brokers that were started: the error says
    /// where these are.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        check(&options)?;
        let program = options.driver.find_program(options.broker_binary.as_deref()).await?;
        let mut chosen = Some(ports::choose(options.host, options.brokers, options.ports)?);
        let (layout, temporary) = make_directory(options.dir.as_deref())?;
        let authority = match Authority::create(&layout) {
            Ok(authority) => authority,
            Err(error) => return Err(withdraw(&layout, options.brokers, error)),
        };
        let mut attempt = 1;
        loop {
            let ports = match chosen.take() {
                Some(ports) => ports,
                None => ports::choose(options.host, options.brokers, options.ports)?,
            };
            let description = Description {
                cluster_id: uuid::Uuid::new_v4().simple().to_string(),
                driver: options.driver,
                binary: program.binary.clone(),
                jars: program.jars.clone(),
                host: options.host,
                ports,
                removed: BTreeSet::new(),
                environment: program.environment.iter().chain(&options.environment).cloned().collect(),
                insecure_peers: options.insecure_peers,
            };
            match Self::try_start(&options, &layout, &authority, description, temporary).await {
                Ok(cluster) => return Ok(cluster),
                Err(ClusterError::NotReady { log, .. })
                    if attempt < PORT_ATTEMPTS
                        && any_free(&options)
                        && options.driver.lost_a_port(&process::tail(&log, 20)) =>
                {
                    tracing::info!(attempt, "a chosen port was taken in between; trying others");
                    attempt += 1;
                }
                // Their logs are evidence, and the error says where they are.
                Err(error @ (ClusterError::NotReady { .. } | ClusterError::Kafka(KafkaError::Format { .. }))) => {
                    return Err(error);
                }
                Err(error) => return Err(withdraw(&layout, options.brokers, error)),
            }
        }
    }

    async fn try_start(
        options: &ClusterOptions,
        layout: &Layout,
        authority: &Authority,
        description: Description,
        temporary: bool,
    ) -> Result<Self, ClusterError> {
        let mut settings = Vec::new();
        if let Some(flush) = options.flush {
            settings.extend(options.driver.flush_settings(flush));
        }
        settings.extend(options.settings.iter().cloned());
        for id in 1..=options.brokers as i32 {
            let mut settings = settings.clone();
            if let Some(rack) = options.racks.iter().cycle().nth(id as usize - 1) {
                settings.push(("broker.rack".to_owned(), rack.clone()));
            }
            let broker = layout.broker(id);
            if broker.exists() {
                fs::remove_dir_all(&broker).map_err(ClusterError::file("remove", &broker))?;
            }
            let data = layout.data(id);
            fs::create_dir_all(&data).map_err(ClusterError::file("create", &data))?;
            authority.issue(id, options.host, &layout.keystore(id))?;
            let properties = layout.properties(id);
            let text = options.driver.properties(layout, &description, id, &settings);
            fs::write(&properties, text).map_err(ClusterError::file("write", &properties))?;
        }
        layout.write_description(&description)?;
        let remove = ((temporary || options.remove_dir) && !options.keep_dir).then(|| layout.dir());
        let cluster = Self {
            layout: layout.clone(),
            ready_timeout: options.ready_timeout.unwrap_or(options.driver.ready_timeout()),
            brokers: Mutex::new(description.ports.iter().map(|_| Slot::default()).collect()),
            description: Mutex::new(description),
            ownership: Mutex::new(Ownership { watchdog: Some(Watchdog::start(remove)?), remove_dir: remove.is_some() }),
            arguments: Mutex::default(),
        };
        match cluster.launch_all().await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The logs are evidence; drop ends the brokers.
                crate::cluster::lock(&cluster.ownership).remove_dir = false;
                let _ = fs::remove_file(layout.description());
                Err(error)
            }
        }
    }

    async fn launch_all(&self) -> Result<(), ClusterError> {
        // What has to be made for each broker is made for all at once.
        let mut preparing = tokio::task::JoinSet::new();
        for id in self.ids() {
            let (layout, description) = (self.layout.clone(), crate::cluster::lock(&self.description).clone());
            preparing.spawn(async move { description.driver.prepare(&layout, &description, id).await });
        }
        while let Some(prepared) = preparing.join_next().await {
            prepared.expect("preparing does not panic")?;
        }
        for id in self.ids() {
            self.launch(id)?;
        }
        let deadline = Instant::now() + self.ready_timeout;
        let mut waiting: Vec<i32> = self.ids().collect();
        while !waiting.is_empty() {
            // In turn with a short deadline, so that any broker's early end is noticed at once.
            let mut still = Vec::new();
            for id in waiting {
                if self.is_ready(id) {
                    continue;
                }
                let now = Instant::now();
                let state = self.state(id)?;
                if now >= deadline || state == crate::BrokerState::Died {
                    self.wait_ready_until(id, now).await?;
                }
                still.push(id);
            }
            waiting = still;
            if !waiting.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }
}

/// Removes what a start that came to nothing has made, as far as that is possible, and passes on why it did.
fn withdraw(layout: &Layout, brokers: usize, error: ClusterError) -> ClusterError {
    if let Err(left) = layout.remove_made(1..=brokers as i32) {
        tracing::warn!(%left, "something is left behind");
    }
    error
}

fn check(options: &ClusterOptions) -> Result<(), ClusterError> {
    if options.brokers == 0 || options.brokers > 100 {
        return Err(ClusterError::Option(format!("{} brokers: choose 1 to 100", options.brokers)));
    }
    if let Some(rack) = options.racks.iter().find(|rack| rack.trim().is_empty() || rack.contains('\n')) {
        return Err(ClusterError::Option(format!("`{rack}` is not the name of a rack")));
    }
    for (name, value) in &options.settings {
        if name.trim().is_empty() || name.contains(['\n', '=']) || value.contains('\n') {
            return Err(ClusterError::Option(format!("`{name}={value}` is not a setting (name=value)")));
        }
    }
    Ok(())
}

fn any_free(options: &ClusterOptions) -> bool {
    options.ports.quic.is_none() || options.ports.tcp.is_none() || options.ports.control.is_none()
}

fn make_directory(asked: Option<&Path>) -> Result<(Layout, bool), ClusterError> {
    let Some(asked) = asked else {
        let made = tempfile::Builder::new().prefix("minisr-").tempdir();
        let dir = made.map_err(ClusterError::file("create a directory in", std::env::temp_dir()))?.keep();
        let layout = Layout::new(dir);
        layout.mark_ours()?;
        return Ok((layout, true));
    };
    let dir = std::path::absolute(asked).map_err(ClusterError::file("locate", asked))?;
    let layout = Layout::new(&dir);
    match Cluster::open(&dir) {
        Ok(there) => {
            let running = !there.pids().is_empty();
            let (state, hint) = if running { ("running", "down") } else { ("not running", "start all` or `down") };
            return Err(ClusterError::Exists { dir, state, hint });
        }
        Err(ClusterError::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    if !dir.exists() {
        fs::create_dir_all(&dir).map_err(ClusterError::file("create", &dir))?;
        layout.mark_ours()?;
    }
    Ok((layout, false))
}
