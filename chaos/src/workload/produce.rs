//! The writers: open loop, so that a cluster in trouble is offered exactly what a healthy one is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use minisr_client::producer::{BatchReport, Outcome as Delivery, Producer, ProducerConfig, Record};
use minisr_client::{Client, ClientConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::history::{Outcome, Slot, Value};
use crate::leaders::encode_value;
use crate::recorder::Recorder;

const TICK: Duration = Duration::from_millis(5);

/// One writer.
#[derive(Debug, Clone)]
pub struct WriterPlan {
    /// Its number, the upper part of its values.
    pub writer: u16,
    /// How it reaches the cluster.
    pub client: ClientConfig,
    /// −1 (all, idempotent) or 1.
    pub acks: i16,
    /// Records per second.
    pub rate: f64,
    /// Size of a value.
    pub record_bytes: usize,
    /// When a record is given up.
    pub delivery_timeout: Duration,
    /// Topic, partition and slot that it writes to, in turn.
    pub targets: Vec<(String, i32, Slot)>,
}

/// The running writers.
#[derive(Debug)]
pub struct Writers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Writers {
    /// Starts them.
    pub fn start(plans: Vec<WriterPlan>, recorder: &Arc<Recorder>) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for plan in plans {
            let reports = recorder.clone();
            let config = ProducerConfig {
                acks: plan.acks,
                idempotence: plan.acks == -1,
                delivery_timeout: plan.delivery_timeout,
                request_timeout: plan.delivery_timeout / 3,
                ..ProducerConfig::default()
            };
            let client = Client::new(plan.client.clone())?;
            let producer = Producer::start(client, config, move |report| note(&reports, &report))?;
            tasks.spawn(write(plan, producer, recorder.clone(), stopped.clone()));
        }
        Ok(Self { stop, tasks })
    }

    /// Stops writing and waits until every write has an outcome.
    pub async fn finish(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Sends what is due by the clock, whatever became of what was sent before.
async fn write(plan: WriterPlan, producer: Producer, recorder: Arc<Recorder>, mut stop: watch::Receiver<bool>) {
    let handles: Vec<_> = plan.targets.iter().map(|(topic, index, _)| producer.partition(topic, *index)).collect();
    let began = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let mut count = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.changed() => break,
        }
        let due = (began.elapsed().as_secs_f64() * plan.rate) as u64;
        while count < due {
            let target = (count % handles.len() as u64) as usize;
            let value = Value::new(plan.writer, count);
            let bytes = encode_value(value, plan.record_bytes);
            let tag = recorder.begin(value, plan.targets[target].2);
            let record = Record { value: Some(&bytes), ..Record::default() };
            if let Err(error) = producer.append(handles[target], &record, tag) {
                // Never handed to a connection, so certainly in no log.
                tracing::debug!(writer = plan.writer, %error, "not accepted");
                recorder.finish(tag, Outcome::Failed);
            }
            count += 1;
        }
    }
    // The producer gives up by itself after the delivery timeout; a little more than that is ample.
    producer.close(plan.delivery_timeout + Duration::from_secs(5)).await;
}

fn note(recorder: &Recorder, report: &BatchReport) {
    for (index, tag) in report.tags.iter().enumerate() {
        recorder.finish(
            *tag,
            match &report.outcome {
                Delivery::Ok if report.base_offset >= 0 => Outcome::Ok { offset: report.base_offset + index as i64 },
                // Acknowledged as a duplicate of something so old that its offset is forgotten.
                Delivery::Ok => Outcome::Ok { offset: -1 },
                Delivery::Failed(_) => Outcome::Failed,
                Delivery::Unknown(_) => Outcome::Unknown,
            },
        );
    }
    if !matches!(report.outcome, Delivery::Ok) {
        tracing::debug!(?report, "not acknowledged");
    }
}
