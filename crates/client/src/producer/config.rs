//! Settings of a producer.

use std::time::Duration;

/// Settings of a producer; names follow Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// When a write counts: 0 (never answered), 1 (leader has it), −1 (all in-sync replicas have it).
    pub acks: i16,
    /// `enable.idempotence`: retries cannot duplicate or reorder. Needs acks=−1.
    pub idempotence: bool,
    /// `batch.size`: a batch is closed when the next record would exceed this. A larger record goes alone.
    pub batch_bytes_max: usize,
    /// A batch is closed when it has this many records.
    pub batch_records_max: i32,
    /// `linger`: how long a batch that is not full waits for more. At zero it leaves as soon as there is room in
    /// the window, so batches grow under load only.
    pub linger: Duration,
    /// `buffer.memory`: bytes of records appended and not completed.
    pub buffer_bytes_max: usize,
    /// `max.in.flight`, here per partition: batches sent and not answered. At most 5 with idempotence.
    pub max_in_flight: usize,
    /// `max.request.size`: a request takes no further batch beyond this.
    pub request_bytes_max: usize,
    /// `request.timeout`: a connection whose oldest request is not answered in this time is given up.
    pub request_timeout: Duration,
    /// `delivery.timeout`: a batch is given up this long after its first record was appended.
    pub delivery_timeout: Duration,
    /// A stream without progress for this long while requests are outstanding is suspect: another broker is asked
    /// whether the leader has moved. On QUIC a killed leader is silent, so this is most of what a failover takes; a
    /// suspicion without cause costs one question.
    pub suspect_after: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: -1,
            idempotence: true,
            batch_bytes_max: 64 * 1024,
            batch_records_max: i32::MAX,
            linger: Duration::ZERO,
            buffer_bytes_max: 32 * 1024 * 1024,
            max_in_flight: 5,
            request_bytes_max: 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
            suspect_after: Duration::from_millis(100),
        }
    }
}

/// Why settings contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProducerConfigError(pub String);

impl ProducerConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn validate(&self) -> Result<(), ProducerConfigError> {
        let refuse = |text: String| Err(ProducerConfigError(text));
        if !matches!(self.acks, -1..=1) {
            return refuse(format!("acks {} is none of 0, 1, -1 (all)", self.acks));
        }
        if self.idempotence && self.acks != -1 {
            return refuse(format!("idempotence needs acks=-1, not {}", self.acks));
        }
        if self.max_in_flight == 0 || (self.idempotence && self.max_in_flight > 5) {
            return refuse(format!("max_in_flight {} is not in 1..=5", self.max_in_flight));
        }
        if self.batch_bytes_max == 0 || self.batch_records_max <= 0 {
            return refuse("a batch must have room for a record".into());
        }
        if self.buffer_bytes_max < self.batch_bytes_max {
            return refuse(format!(
                "buffer_bytes_max {} is below batch_bytes_max {}",
                self.buffer_bytes_max, self.batch_bytes_max
            ));
        }
        if self.request_bytes_max < self.batch_bytes_max {
            return refuse(format!(
                "request_bytes_max {} is below batch_bytes_max {}",
                self.request_bytes_max, self.batch_bytes_max
            ));
        }
        Ok(())
    }
}
