//! Random faults, random elections: whatever happens, outcomes are true, order holds, and nothing is there twice.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use minisr_client::producer::{Outcome, Producer, ProducerConfig, Record};
use minisr_wire::ErrorCode;
use proptest::prelude::*;
use support::{FakeCluster, Fault};

const PARTITIONS: i32 = 2;
const RECORDS: u64 = 40;

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)),
        1 => Just(Fault::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        1 => Just(Fault::Refuse(ErrorCode::INVALID_RECORD)),
        1 => Just(Fault::AppendAndAnswer(ErrorCode::REQUEST_TIMED_OUT)),
        1 => Just(Fault::AppendAndAnswer(ErrorCode::UNKNOWN_SERVER_ERROR)),
        1 => Just(Fault::AppendAndClose),
        1 => Just(Fault::Close),
        1 => Just(Fault::AppendAndFallSilent),
        1 => Just(Fault::FallSilent),
    ]
}

/// What became of each value: where it is if acknowledged.
type Outcomes = BTreeMap<u64, (Outcome, i64)>;

async fn run(faults: Vec<Fault>) -> (FakeCluster, Outcomes) {
    let cluster = FakeCluster::start(2).await;
    cluster.topic("t", PARTITIONS);
    cluster.script(&faults);
    let config = ProducerConfig {
        batch_records_max: 2,
        suspect_after: Duration::from_millis(20),
        delivery_timeout: Duration::from_secs(20),
        ..ProducerConfig::default()
    };
    let (producer, mut receiver) = Producer::with_reports(cluster.client(), config).unwrap();
    for value in 0..RECORDS {
        let handle = producer.partition("t", (value % PARTITIONS as u64) as i32);
        producer.append_wait(handle, &Record::of(&value.to_be_bytes()), value).await.unwrap();
    }
    let elector = {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            // A silent broker is left only when leadership moves, so it moves whenever nothing arrives any more.
            let mut arrived_before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(60)).await;
                let mut state = cluster.state();
                let arrived = state.arrived.len();
                for partition in (0..PARTITIONS).filter(|_| arrived == arrived_before) {
                    let leader = state.partition("t", partition).leader;
                    state.elect("t", partition, 3 - leader);
                }
                arrived_before = arrived;
            }
        })
    };
    producer.close(Duration::from_secs(30)).await;
    elector.abort();
    let mut outcomes = Outcomes::new();
    while let Some(report) = receiver.recv().await {
        for (index, &tag) in report.tags.iter().enumerate() {
            let offset = report.base_offset + index as i64;
            assert!(outcomes.insert(tag, (report.outcome.clone(), offset)).is_none(), "{tag} was reported twice");
        }
    }
    (cluster, outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn producer_under_random_faults_tells_the_truth(faults in prop::collection::vec(fault(), 0..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (cluster, outcomes) = runtime.block_on(run(faults));
        prop_assert_eq!(outcomes.len() as u64, RECORDS, "every record is reported");
        for partition in 0..PARTITIONS {
            let log: Vec<u64> = cluster
                .state()
                .partition("t", partition)
                .values()
                .iter()
                .map(|value| u64::from_be_bytes(value[..].try_into().unwrap()))
                .collect();
            prop_assert!(log.is_sorted(), "in the order of sending: {:?}", log);
            prop_assert!(log.windows(2).all(|pair| pair[0] != pair[1]), "once each: {:?}", log);
            for value in (0..RECORDS).filter(|value| value % PARTITIONS as u64 == partition as u64) {
                let (outcome, offset) = &outcomes[&value];
                let found = log.iter().position(|&found| found == value);
                match outcome {
                    Outcome::Ok => prop_assert_eq!(found, Some(*offset as usize), "{} is ok", value),
                    Outcome::Failed(_) => prop_assert_eq!(found, None, "{} has failed", value),
                    Outcome::Unknown(_) => {}
                }
            }
        }
    }
}
