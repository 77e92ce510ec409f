//! The consumer and the final reads.

mod support;

use std::time::Duration;

use minisr_client::consumer::ConsumerError;
use minisr_client::producer::{Producer, ProducerConfig, Record};
use minisr_client::{Admin, Consumer, ConsumerConfig, NewTopic, OffsetReset, OffsetSpec, read_all};
use support::FakeCluster;

const TIMEOUT: Duration = Duration::from_secs(10);

async fn filled(partitions: i32, records: u64) -> FakeCluster {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", partitions);
    let config = ProducerConfig { batch_records_max: 3, ..ProducerConfig::default() };
    let producer = Producer::start(cluster.client(), config, |_| {}).unwrap();
    for value in 0..records {
        let handle = producer.partition("t", (value % partitions as u64) as i32);
        producer.append(handle, &Record::of(&value.to_be_bytes()), value).unwrap();
    }
    producer.close(TIMEOUT).await;
    cluster
}

fn value(bytes: Option<&[u8]>) -> u64 {
    u64::from_be_bytes(bytes.unwrap().try_into().unwrap())
}

#[tokio::test]
async fn reading_all_finds_every_record_of_every_partition() {
    let cluster = filled(3, 100).await;
    let mut seen = Vec::new();
    let ranges = read_all(&cluster.client(), "t", TIMEOUT, |partition, _, record| {
        assert_eq!(value(record.value) % 3, partition as u64);
        seen.push(value(record.value));
    })
    .await
    .unwrap();
    assert_eq!(ranges.values().map(|range| range.end - range.start).sum::<i64>(), 100);
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn consumer_starts_in_the_middle_of_a_batch_and_follows_the_leader() {
    let cluster = filled(1, 10).await;
    let client = cluster.client();
    client.refresh(Some(&["t".into()])).await.unwrap();
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.assign("t", 0, 4);
    cluster.state().elect("t", 0, 2);
    let mut seen = Vec::new();
    while consumer.position("t", 0) != Some(10) {
        let fetched = tokio::time::timeout(TIMEOUT, consumer.poll()).await.unwrap().unwrap();
        assert_eq!((fetched.broker_id, fetched.leader_epoch, fetched.high_watermark), (2, 1, 10));
        fetched.records(|_, record| seen.push(record.offset)).unwrap();
    }
    assert_eq!(seen, (4..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn consumer_out_of_range_does_what_the_policy_says() {
    let cluster = filled(1, 5).await;
    let mut consumer = Consumer::new(cluster.client(), ConsumerConfig::default());
    consumer.assign("t", 0, 99);
    let error = tokio::time::timeout(TIMEOUT, consumer.poll()).await.unwrap().unwrap_err();
    assert!(matches!(error, ConsumerError::OutOfRange { offset: 99, .. }), "{error}");

    let config = ConsumerConfig { reset: OffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(cluster.client(), config);
    consumer.assign("t", 0, 99);
    let fetched = tokio::time::timeout(TIMEOUT, consumer.poll()).await.unwrap().unwrap();
    assert_eq!(fetched.from, 0);
}

#[tokio::test]
async fn consumer_leaves_a_silent_broker_for_the_new_leader() {
    let cluster = filled(1, 5).await;
    let client = cluster.client();
    client.refresh(Some(&["t".into()])).await.unwrap();
    {
        let mut state = cluster.state();
        state.silent.push(1);
        state.elect("t", 0, 2);
    }
    let config = ConsumerConfig { fetch_wait: Duration::from_millis(100), ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign("t", 0, 0);
    let fetched = tokio::time::timeout(TIMEOUT, consumer.poll()).await.unwrap().unwrap();
    assert_eq!(fetched.broker_id, 2);
}

#[tokio::test]
async fn admin_lists_offsets_and_waits_for_leaders() {
    let cluster = filled(2, 7).await;
    let admin = Admin::new(cluster.client());
    admin.wait_until_led("t", 2, TIMEOUT).await.unwrap();
    let ends = admin.list_offsets("t", &[0, 1], OffsetSpec::Latest).await.unwrap();
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [(0, 4), (1, 3)]);
    let error = admin.wait_until_led("absent", 1, Duration::from_millis(100)).await.unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

#[tokio::test]
async fn admin_creating_a_topic_that_takes_long_does_not_hear_that_it_exists() {
    let cluster = FakeCluster::start(3).await;
    let admin = Admin::new(cluster.client());
    admin.create_topic(&NewTopic::new("slow", 3, 1)).await.unwrap();
    let again = admin.create_topic(&NewTopic::new("slow", 3, 1)).await.unwrap_err();
    assert!(again.to_string().contains("TOPIC_ALREADY_EXISTS (36)"), "{again}");
}
