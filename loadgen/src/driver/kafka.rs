//! The Kafka client behind the seam.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use minisr_client::consumer::{Consumer, ConsumerConfig};
use minisr_client::producer::{self, AppendError, Cause, PartitionHandle, Producer, ProducerConfig, Record};
use minisr_client::{Admin, Client, OffsetSpec};
use minisr_wire::ErrorCode;
use tokio::sync::{Mutex, mpsc};

use super::{BatchReport, Driver, Outcome, Source};
use crate::clock::Clock;
use crate::plan::Acks;
use crate::record::{self, RecordBuilder};
use crate::settings::Settings;
use crate::tally::Failure;

/// A batch not acknowledged within this is given up; shorter than the drain, so that little stays unresolved.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait of one [`Source::poll`], so that the caller can look at its own end.
const POLL_LIMIT: Duration = Duration::from_millis(200);

/// A producer of one topic.
pub struct KafkaDriver {
    producer: Producer,
    reports: Mutex<mpsc::UnboundedReceiver<producer::BatchReport>>,
    partitions: Vec<PartitionHandle>,
    clock: Clock,
    acks: Acks,
}

impl KafkaDriver {
    /// Connects.
    pub async fn start(
        client: &Client,
        clock: Clock,
        topic: &str,
        acks: Acks,
        settings: &Settings,
        linger: Duration,
    ) -> Result<KafkaDriver> {
        // The first record must not pay for finding the leaders.
        let limit = Duration::from_secs(10);
        let partitions = settings.partitions;
        Admin::new(client.clone()).wait_until_led(topic, partitions as usize, limit).await?;
        let in_flight_bytes =
            partitions as usize * settings.max_in_flight as usize * (settings.batch_bytes as usize + 1024);
        let config = ProducerConfig {
            acks: acks.wire_value(),
            idempotence: acks == Acks::All,
            batch_bytes_max: settings.batch_bytes as usize,
            linger,
            // Twice what is in flight: batches gather while the window is full.
            buffer_bytes_max: (2 * in_flight_bytes).max(32 << 20),
            max_in_flight: settings.max_in_flight as usize,
            request_timeout: DELIVERY_TIMEOUT,
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        let (producer, reports) = Producer::with_reports(client.clone(), config)?;
        let partitions = (0..partitions as i32).map(|partition| producer.partition(topic, partition)).collect();
        Ok(KafkaDriver { producer, reports: Mutex::new(reports), partitions, clock, acks })
    }

    /// Ends what is left.
    pub async fn close(self) {
        self.producer.close(CLOSE_LIMIT).await;
    }

    fn record<'a>(&self, value: &'a [u8], made_ns: u64) -> Record<'a> {
        // Looking at the system's clock for each record would be a tenth of what a small one costs here.
        Record { timestamp_ms: Some(self.clock.wall_ms(made_ns)), ..Record::of(value) }
    }

    /// Takes from the front of `indexes` what the producer takes without waiting.
    fn append_while_there_is_room(
        &self,
        partition: u32,
        builder: &mut RecordBuilder,
        made_ns: u64,
        indexes: &mut Range<u64>,
    ) -> Result<(), AppendError> {
        let mut appender = self.producer.appender(self.partitions[partition as usize]);
        while !indexes.is_empty() {
            let index = indexes.start;
            match appender.append(&self.record(builder.build(made_ns, index), made_ns), record::tag(index, 0)) {
                Ok(()) => indexes.start += 1,
                Err(AppendError::Full) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A report of the client in the generator's terms.
pub(crate) fn translate(report: producer::BatchReport, clock: Clock, acks: Acks) -> BatchReport {
    let done_ns = clock.at_ns(report.completed_at);
    let outcome = match &report.outcome {
        producer::Outcome::Ok if acks == Acks::None => Outcome::Sent,
        producer::Outcome::Ok => Outcome::Acked { base_offset: report.base_offset },
        producer::Outcome::Failed(cause) => Outcome::Failed(failure(cause)),
        producer::Outcome::Unknown(cause) => Outcome::Unknown(failure(cause)),
    };
    BatchReport {
        partition: report.partition as u32,
        tags: report.tags,
        outcome,
        sent_ns: report.sent_at.map_or(done_ns, |sent| clock.at_ns(sent)),
        done_ns,
        retries: report.attempts.saturating_sub(1),
    }
}

fn failure(cause: &Cause) -> Failure {
    match cause {
        Cause::DeliveryTimeout(Some(last)) if failure(last) != Failure::Other => failure(last),
        Cause::DeliveryTimeout(_) | Cause::Code(ErrorCode::REQUEST_TIMED_OUT) => Failure::Timeout,
        Cause::Code(ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND) => {
            Failure::NotEnoughReplicas
        }
        Cause::Code(ErrorCode::NOT_LEADER_OR_FOLLOWER) => Failure::NotLeader,
        _ => Failure::Other,
    }
}

impl Driver for KafkaDriver {
    async fn send(&self, partition: u32, value: &[u8], made_ns: u64, tag: u64) -> Result<()> {
        let partition = self.partitions[partition as usize];
        Ok(self.producer.append_wait(partition, &self.record(value, made_ns), tag).await?)
    }

    async fn send_run(
        &self,
        partition: u32,
        builder: &mut RecordBuilder,
        made_ns: u64,
        mut indexes: Range<u64>,
    ) -> Result<()> {
        while !indexes.is_empty() {
            self.append_while_there_is_room(partition, builder, made_ns, &mut indexes)?;
            // The next one waits for room; it is likely that others find some then.
            if let Some(index) = indexes.next() {
                self.send(partition, builder.build(made_ns, index), made_ns, record::tag(index, 0)).await?;
            }
        }
        Ok(())
    }

    async fn next_report(&self) -> Result<BatchReport> {
        let report = self.reports.lock().await.recv().await.context("the producer ended")?;
        if report.outcome == producer::Outcome::Ok && self.acks != Acks::None && report.base_offset < 0 {
            bail!("a batch of partition {} was acknowledged without an offset", report.partition);
        }
        Ok(translate(report, self.clock, self.acks))
    }

    async fn flush(&self) -> Result<()> {
        self.producer.flush().await;
        Ok(())
    }
}

/// Reads every partition of one topic from its beginning.
pub struct KafkaSource {
    consumer: Consumer,
}

impl KafkaSource {
    /// Finds the leaders; connects with the first poll.
    pub async fn open(client: &Client, topic: &str, partitions: u32) -> Result<KafkaSource> {
        let limit = Duration::from_secs(10);
        Admin::new(client.clone()).wait_until_led(topic, partitions as usize, limit).await?;
        let mut consumer = Consumer::new(client.clone(), ConsumerConfig::default());
        for partition in 0..partitions as i32 {
            consumer.assign(topic, partition, 0);
        }
        Ok(KafkaSource { consumer })
    }
}

impl Source for KafkaSource {
    async fn poll(&mut self, mut each: impl FnMut(u32, i64, &[u8])) -> Result<usize> {
        let Ok(fetched) = tokio::time::timeout(POLL_LIMIT, self.consumer.poll()).await else { return Ok(0) };
        let fetched = fetched?;
        let mut records = 0;
        fetched.records(|_, record| {
            records += 1;
            each(fetched.partition as u32, record.offset, record.value.unwrap_or_default());
        })?;
        Ok(records)
    }
}

/// First offset behind each partition's committed records.
pub async fn end_offsets(client: &Client, topic: &str, partitions: u32) -> Result<Vec<i64>> {
    let partitions: Vec<i32> = (0..partitions as i32).collect();
    let ends = Admin::new(client.clone()).list_offsets(topic, &partitions, OffsetSpec::Latest).await?;
    Ok(partitions.iter().filter_map(|partition| ends.get(partition).copied()).collect())
}
