//! The producer against brokers that refuse, forget, repeat and fall silent: order, no loss, no duplicates, and
//! honest outcomes.

mod support;

use std::time::Duration;

use minisr_client::producer::{
    AppendError, BatchReport, Cause, Outcome, ProduceError, Producer, ProducerConfig, Record,
};
use minisr_wire::ErrorCode;
use support::{FakeCluster, Fault};
use tokio::sync::mpsc::UnboundedReceiver;

const TIMEOUT: Duration = Duration::from_secs(10);

/// One record per batch, so that a test can count.
fn single() -> ProducerConfig {
    ProducerConfig { batch_records_max: 1, ..ProducerConfig::default() }
}

/// Room for one batch of 4 KiB, which lingers.
fn one_batch() -> ProducerConfig {
    let linger = Duration::from_secs(60);
    ProducerConfig { linger, batch_bytes_max: 4096, buffer_bytes_max: 4096, ..ProducerConfig::default() }
}

async fn send_all(producer: &Producer, partition: i32, values: std::ops::Range<u64>) {
    let handle = producer.partition("t", partition);
    for value in values {
        producer.append_wait(handle, &Record::of(&value.to_be_bytes()), value).await.unwrap();
    }
}

async fn reports(receiver: &mut UnboundedReceiver<BatchReport>, records: usize) -> Vec<BatchReport> {
    let mut reports = Vec::new();
    let mut seen = 0;
    while seen < records {
        let report = tokio::time::timeout(TIMEOUT, receiver.recv()).await.expect("a report in time").unwrap();
        seen += report.tags.len();
        reports.push(report);
    }
    reports
}

fn values(cluster: &FakeCluster, partition: i32) -> Vec<u64> {
    let values = cluster.state().partition("t", partition).values();
    values.iter().map(|value| u64::from_be_bytes(value[..].try_into().unwrap())).collect()
}

/// Sends 20 records, one per batch, five in flight, under a script of faults; all must end ok, once, in order.
async fn survives(faults: &[Fault]) -> Vec<BatchReport> {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    cluster.script(faults);
    let config = ProducerConfig { suspect_after: Duration::from_millis(50), ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..20).await;
    let reports = reports(&mut receiver, 20).await;
    for report in &reports {
        assert_eq!(report.outcome, Outcome::Ok, "{report:?}");
        assert_eq!(report.base_offset, report.tags[0] as i64, "offsets must follow the order of sending");
    }
    assert_eq!(values(&cluster, 0), (0..20).collect::<Vec<_>>());
    reports
}

#[tokio::test]
async fn producer_without_faults_delivers_each_record_once_in_order() {
    let reports = survives(&[]).await;
    assert!(reports.iter().all(|report| report.attempts == 1 && report.sent_at.is_some()));
}

#[tokio::test]
async fn producer_whose_third_batch_is_refused_keeps_the_order() {
    survives(&[Fault::None, Fault::None, Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)]).await;
}

#[tokio::test]
async fn producer_whose_first_batch_is_refused_keeps_the_order() {
    // The broker takes any sequence from a producer it does not know, so the second batch must not arrive first.
    survives(&[Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)]).await;
    survives(&[Fault::Close]).await;
    survives(&[Fault::AppendAndClose]).await;
}

#[tokio::test]
async fn producer_whose_answer_is_lost_after_the_append_does_not_duplicate() {
    let reports = survives(&[Fault::None, Fault::None, Fault::None, Fault::AppendAndClose]).await;
    assert!(reports.iter().any(|report| report.attempts > 1));
}

#[tokio::test]
async fn producer_whose_connection_ends_before_the_append_sends_again() {
    survives(&[Fault::None, Fault::Close, Fault::None, Fault::Close]).await;
}

#[tokio::test]
async fn producer_told_of_a_timeout_after_the_append_gets_the_original_offset() {
    let timed_out = Fault::AppendAndAnswer(ErrorCode::REQUEST_TIMED_OUT);
    survives(&[Fault::None, timed_out, Fault::None, timed_out]).await;
}

#[tokio::test]
async fn producer_with_many_faults_in_a_row_still_delivers_once_in_order() {
    let mut faults = vec![Fault::None];
    for round in 0..12 {
        faults.push(match round % 4 {
            0 => Fault::AppendAndClose,
            1 => Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            2 => Fault::Close,
            _ => Fault::AppendAndAnswer(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        });
        faults.push(Fault::None);
    }
    survives(&faults).await;
}

#[tokio::test]
async fn producer_follows_a_leader_that_moves() {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", 1);
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), single()).unwrap();
    send_all(&producer, 0, 0..5).await;
    reports(&mut receiver, 5).await;
    cluster.state().elect("t", 0, 2);
    send_all(&producer, 0, 5..10).await;
    let moved = reports(&mut receiver, 5).await;
    assert!(moved.iter().all(|report| report.outcome == Outcome::Ok));
    assert_eq!(values(&cluster, 0), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn producer_leaves_a_silent_broker_when_the_leader_epoch_has_risen() {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", 1);
    cluster.script(&[Fault::None, Fault::AppendAndFallSilent]);
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), single()).unwrap();
    send_all(&producer, 0, 0..1).await;
    reports(&mut receiver, 1).await;
    send_all(&producer, 0, 1..3).await;
    // As long as nobody knows of another leader, the connection is kept.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(receiver.try_recv().is_err(), "nothing may be given up while the leader has not moved");
    let asked = cluster.state().metadata_asked;
    assert!(asked > 1, "another broker must have been asked");
    {
        let mut state = cluster.state();
        state.silent.push(1);
        state.elect("t", 0, 2);
    }
    let elected_at = std::time::Instant::now();
    let reports = reports(&mut receiver, 2).await;
    assert!(elected_at.elapsed() < Duration::from_millis(700), "took {:?}", elected_at.elapsed());
    assert!(reports.iter().all(|report| report.outcome == Outcome::Ok));
    assert_eq!(values(&cluster, 0), [0, 1, 2]);
}

#[tokio::test]
async fn producer_reports_failed_only_what_is_certainly_absent() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let unsure = Fault::AppendAndAnswer(ErrorCode::UNKNOWN_SERVER_ERROR);
    cluster.script(&[Fault::None, Fault::Refuse(ErrorCode::MESSAGE_TOO_LARGE), Fault::None, unsure, Fault::None]);
    let config = ProducerConfig { max_in_flight: 1, ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..5).await;
    let mut reports = reports(&mut receiver, 5).await;
    reports.sort_by_key(|report| report.tags[0]);
    let outcomes: Vec<_> = reports.into_iter().map(|report| report.outcome).collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Ok,
            Outcome::Failed(Cause::Code(ErrorCode::MESSAGE_TOO_LARGE)),
            Outcome::Ok,
            Outcome::Unknown(Cause::Code(ErrorCode::UNKNOWN_SERVER_ERROR)),
            Outcome::Ok,
        ]
    );
    assert_eq!(values(&cluster, 0), [0, 2, 3, 4]);
}

#[tokio::test]
async fn producer_that_lost_a_batch_for_good_raises_its_epoch_and_goes_on() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    // The second of five in flight is refused for good; the three behind it arrive out of order.
    cluster.script(&[Fault::None, Fault::None, Fault::Refuse(ErrorCode::INVALID_RECORD)]);
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), single()).unwrap();
    send_all(&producer, 0, 0..1).await;
    reports(&mut receiver, 1).await;
    send_all(&producer, 0, 1..10).await;
    let reports = reports(&mut receiver, 9).await;
    let failed: Vec<_> = reports.iter().filter(|report| report.outcome != Outcome::Ok).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].outcome, Outcome::Failed(Cause::Code(ErrorCode::INVALID_RECORD)));
    let lost = failed[0].tags[0];
    let expected: Vec<u64> = (0..10).filter(|&value| value != lost).collect();
    assert_eq!(values(&cluster, 0), expected);
    assert!(cluster.state().arrived.iter().any(|&(.., epoch)| epoch == 1), "the epoch must have been raised");
}

#[tokio::test]
async fn producer_whose_refusals_end_with_the_delivery_timeout_has_failed_for_certain() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    cluster.script(&vec![Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS); 100]);
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(200), ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..1).await;
    let report = reports(&mut receiver, 1).await.remove(0);
    assert!(matches!(report.outcome, Outcome::Failed(Cause::DeliveryTimeout(Some(_)))), "{report:?}");
    assert!(report.attempts > 1);

    // One attempt of unknown fate makes the whole unknown, whatever is refused later.
    cluster.script(
        &[
            vec![Fault::AppendAndAnswer(ErrorCode::NOT_LEADER_OR_FOLLOWER)],
            vec![Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS); 100],
        ]
        .concat(),
    );
    send_all(&producer, 0, 1..2).await;
    let report = reports(&mut receiver, 1).await.remove(0);
    assert_eq!(report.outcome, Outcome::Unknown(Cause::Code(ErrorCode::NOT_LEADER_OR_FOLLOWER)));
}

#[tokio::test]
async fn producer_without_a_leader_fails_what_it_never_sent() {
    let cluster = FakeCluster::start(1).await;
    let config = ProducerConfig { delivery_timeout: Duration::from_millis(200), ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..1).await;
    let report = reports(&mut receiver, 1).await.remove(0);
    assert_eq!(report.outcome, Outcome::Failed(Cause::DeliveryTimeout(None)));
    assert_eq!((report.sent_at, report.attempts), (None, 0));
}

#[tokio::test]
async fn producer_with_acks_zero_reports_what_was_written_without_an_offset() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let config = ProducerConfig { acks: 0, idempotence: false, ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..20).await;
    let reports = reports(&mut receiver, 20).await;
    assert!(reports.iter().all(|report| report.outcome == Outcome::Ok && report.base_offset == -1));
    for _ in 0..1000 {
        if values(&cluster, 0).len() == 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(values(&cluster, 0), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn producer_batches_what_arrives_within_the_linger_and_spreads_partitions() {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", 4);
    let config = ProducerConfig { linger: Duration::from_millis(50), ..ProducerConfig::default() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    for partition in 0..4 {
        send_all(&producer, partition, 0..100).await;
    }
    let reports = reports(&mut receiver, 400).await;
    assert_eq!(reports.len(), 4, "one batch for each partition");
    for partition in 0..4 {
        assert_eq!(values(&cluster, partition), (0..100).collect::<Vec<_>>());
    }
    let brokers: Vec<_> = cluster.state().arrived.iter().map(|&(broker, partition, ..)| (broker, partition)).collect();
    for (broker, partition) in brokers {
        assert_eq!(broker, partition % 2 + 1);
    }
}

#[tokio::test]
async fn producer_flush_does_not_wait_for_the_linger() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..3).await;
    tokio::time::timeout(TIMEOUT, producer.flush()).await.expect("a flush is not held up");
    assert_eq!(reports(&mut receiver, 3).await.len(), 1);
    assert_eq!(producer.buffered_bytes(), 0);
}

#[tokio::test]
async fn producer_with_a_full_buffer_says_so_and_recovers() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let (producer, _receiver) = Producer::with_reports(cluster.client(), one_batch()).unwrap();
    let handle = producer.partition("t", 0);
    let value = [7; 1000];
    let accepted = (0..10).take_while(|&tag| producer.append(handle, &Record::of(&value), tag).is_ok()).count();
    assert_eq!(accepted, 4);
    assert_eq!(producer.append(handle, &Record::of(&value), 9), Err(AppendError::Full));
    tokio::time::timeout(TIMEOUT, producer.flush()).await.unwrap();
    producer.append(handle, &Record::of(&value), 9).unwrap();
    let huge = vec![0; 2 << 20];
    assert!(matches!(producer.append(handle, &Record::of(&huge), 9), Err(AppendError::TooLarge { .. })));
}

#[tokio::test]
async fn producer_takes_records_in_a_row_until_its_buffer_is_full_and_sends_what_it_took() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), one_batch()).unwrap();
    let handle = producer.partition("t", 0);
    let mut tags = 0..1000_u64;
    let mut appender = producer.appender(handle);
    let refused = loop {
        let tag = tags.start;
        match appender.append(&Record::of(&tag.to_be_bytes()), tag) {
            Ok(()) => tags.start += 1,
            Err(error) => break error,
        }
    };
    drop(appender);
    assert_eq!(refused, AppendError::Full);
    assert!((100..400).contains(&tags.start), "{} records of some 20 bytes found room", tags.start);
    tokio::time::timeout(TIMEOUT, producer.flush()).await.unwrap();
    let reports = reports(&mut receiver, tags.start as usize).await;
    let taken: Vec<u64> = (0..tags.start).collect();
    assert_eq!(reports.iter().flat_map(|report| report.tags.clone()).collect::<Vec<_>>(), taken);
    assert_eq!(values(&cluster, 0), taken, "the refused record was not sent");
}

#[tokio::test]
async fn producer_whose_last_record_of_a_row_fills_its_batch_does_not_let_it_linger() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    let config = ProducerConfig { linger: Duration::from_secs(600), batch_records_max: 5, ..ProducerConfig::default() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    let handle = producer.partition("t", 0);
    {
        let mut appender = producer.appender(handle);
        for tag in 0..10_u64 {
            appender.append(&Record::of(&tag.to_be_bytes()), tag).unwrap();
        }
    }
    let reports = reports(&mut receiver, 10).await;
    assert_eq!(reports.iter().map(|report| report.tags.len()).collect::<Vec<_>>(), [5, 5]);
}

#[tokio::test]
async fn producer_answers_single_records_with_their_offsets() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    cluster.script(&[Fault::None, Fault::Refuse(ErrorCode::INVALID_TIMESTAMP)]);
    let (producer, _receiver) = Producer::with_reports(cluster.client(), ProducerConfig::default()).unwrap();
    let handle = producer.partition("t", 0);
    assert_eq!(producer.produce(handle, &Record::of(b"12345678")).await.unwrap().offset, 0);
    let refused = producer.produce(handle, &Record::of(b"12345678")).await;
    assert_eq!(refused, Err(ProduceError::Failed(Cause::Code(ErrorCode::INVALID_TIMESTAMP))));
    assert_eq!(producer.produce(handle, &Record::of(b"12345678")).await.unwrap().offset, 1);
}

#[tokio::test]
async fn producer_closed_under_way_says_unknown_for_what_was_sent() {
    let cluster = FakeCluster::start(1).await;
    cluster.topic("t", 1);
    cluster.script(&[Fault::FallSilent]);
    let config = ProducerConfig { max_in_flight: 1, ..single() };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    send_all(&producer, 0, 0..2).await;
    producer.close(Duration::from_millis(300)).await;
    let reports = reports(&mut receiver, 2).await;
    assert_eq!(reports[0].outcome, Outcome::Unknown(Cause::Closed));
    assert_eq!(reports[1].outcome, Outcome::Failed(Cause::Closed));
    assert!(receiver.recv().await.is_none());
}
