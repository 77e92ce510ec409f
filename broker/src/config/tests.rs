use super::*;

fn base() -> BTreeMap<String, String> {
    [
        ("node.id", "1"),
        ("cluster.id", "test"),
        ("log.dirs", "/data"),
        ("listeners", "QUIC://127.0.0.1:0,PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:9301"),
        ("controller.quorum.voters", "1@127.0.0.1:9301"),
        ("ssl.truststore.location", "ca.pem"),
        ("ssl.keystore.location", "broker.pem"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn refusal(name: &str, value: &str) -> String {
    let mut values = base();
    values.insert(name.to_owned(), value.to_owned());
    Settings::from_values(&values).expect_err("must be refused").to_string()
}

#[test]
fn defaults_are_kafkas() {
    let settings = Settings::from_values(&base()).expect("valid");
    assert_eq!(settings.replica_lag_time_max_ms, 30_000);
    assert_eq!(settings.broker_session_timeout_ms, 9_000);
    assert_eq!(settings.min_insync_replicas, 1);
    assert_eq!(settings.message_max_bytes, 1_048_588);
    assert_eq!(settings.log_flush_policy, FlushPolicy::Never);
    assert_eq!(settings.broker_rack, None);
}

#[test]
fn every_default_in_the_table_is_allowed_by_its_own_kind() {
    let mut values = base();
    for setting in Settings::documented() {
        if let Some(default) = setting.default {
            values.insert(setting.name.to_owned(), default.to_owned());
        }
    }
    Settings::from_values(&values).expect("defaults written out are what absence means");
}

#[test]
fn bad_values_are_answered_with_name_value_and_range() {
    let text = refusal("min.insync.replicas", "0");
    assert!(text.contains("min.insync.replicas=0") && text.contains("from 1 to"), "{text}");
    assert!(refusal("log.flush.policy", "sometimes").contains("never, interval, commit"));
    assert!(refusal("node.id", "-1").contains("whole number from 0"));
}

#[test]
fn unknown_names_are_refused_with_the_nearest_or_the_successor() {
    assert!(refusal("min.insync.replica", "2").contains("did you mean min.insync.replicas?"));
    assert!(refusal("zookeeper.connection.timeout.ms", "6000").contains("controller.quorum.voters"));
    assert!(refusal("nonsense", "1").contains("--settings"));
}

#[test]
fn contradictions_between_settings_are_refused() {
    assert!(refusal("replica.fetch.wait.max.ms", "30000").contains("less than replica.lag.time.max.ms=30000"));
    assert!(refusal("broker.session.timeout.ms", "4000").contains("more than twice"));
    assert!(refusal("listeners", "QUIC://127.0.0.1:0").contains("CONTROLLER"));
    assert!(refusal("inter.broker.transport", "tcp").contains("SSL"));
    assert!(refusal("listeners", "QUIC://0.0.0.0:1,CONTROLLER://127.0.0.1:2").contains("names none"));
    assert!(refusal("message.max.bytes", "104857600").contains("socket.request.max.bytes"));
}

#[test]
fn insecure_peers_are_peers_over_plaintext_tcp_and_nothing_else() {
    let with_flag = |changes: &[(&str, &str)]| {
        let mut values = base();
        values.extend(changes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        Settings::from_values_and_flag(&values, true)
    };
    let over_quic = with_flag(&[]).expect_err("the transport is QUIC").to_string();
    assert!(over_quic.contains("inter.broker.transport=tcp"), "{over_quic}");
    let tcp = ("inter.broker.transport", "tcp");
    let nowhere = with_flag(&[tcp, ("listeners", "QUIC://127.0.0.1:0,CONTROLLER://127.0.0.1:2")]);
    assert!(nowhere.expect_err("no plaintext listener").to_string().contains("PLAINTEXT"));
    let plain = ("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:2");
    assert_eq!(with_flag(&[tcp, plain]).expect("valid").inter_broker_listener(), Protocol::Plaintext);
    // Without the flag the same settings want TLS.
    assert!(with(&[tcp, plain]).expect_err("no SSL listener").to_string().contains("SSL"));
}

#[test]
fn missing_settings_are_named() {
    let mut values = base();
    values.remove("log.dirs");
    assert!(Settings::from_values(&values).expect_err("required").to_string().contains("log.dirs is missing"));
}

fn with(changes: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut values = base();
    values.extend(changes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    Settings::from_values(&values)
}

#[test]
fn zookeepers_session_is_the_brokers_session_and_the_log_says_so() {
    let settings = with(&[("zookeeper.session.timeout.ms", "6000")]).expect("accepted");
    assert_eq!(settings.broker_session_timeout_ms, 6_000);
    assert_eq!(settings.notes.len(), 1);
    assert!(settings.notes[0].contains("taken for broker.session.timeout.ms=6000"), "{:?}", settings.notes);

    let both = [("zookeeper.session.timeout.ms", "6000"), ("broker.session.timeout.ms", "7000")];
    let settings = with(&both).expect("accepted");
    assert_eq!(settings.broker_session_timeout_ms, 7_000, "the name of today wins");
    assert!(settings.notes[0].contains("is ignored"), "{:?}", settings.notes);

    assert!(refusal("zookeeper.session.timeout.ms", "soon").contains("zookeeper.session.timeout.ms=soon"));
    // What it maps to is checked as ever.
    assert!(refusal("zookeeper.session.timeout.ms", "3000").contains("more than twice"));
}

#[test]
fn zookeepers_sync_time_is_taken_for_nothing_and_the_log_says_why() {
    let settings = with(&[("zookeeper.sync.time.ms", "2000")]).expect("accepted");
    assert!(settings.notes[0].contains("taken for nothing"), "{:?}", settings.notes);
    assert!(settings.notes[0].contains("ZooKeeper's own followers"), "{:?}", settings.notes);
    assert_eq!(settings.replica_lag_time_max_ms, 30_000);
    assert!(refusal("zookeeper.sync.time.ms", "-1").contains("zookeeper.sync.time.ms=-1"));
    assert!(with(&[]).expect("valid").notes.is_empty());
}

/// Each setting about replication reaches the shard: a value other than the default changes what the shard is told,
/// and changes nothing else.
#[test]
fn replication_settings_reach_the_shard() {
    let told = |changes: &[(&str, &str)]| {
        let config = crate::data_plane::shard_config(&with(changes).expect("valid"));
        let text = format!("{config:#?}");
        text.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = told(&[]);
    for (name, value, expected) in [
        ("replica.lag.time.max.ms", "20000", "replica_lag_time_max_ms: 20000,"),
        ("replica.fetch.wait.max.ms", "250", "replica_fetch_wait_max_ms: 250,"),
        ("replica.fetch.min.bytes", "77", "replica_fetch_min_bytes: 77,"),
        ("replica.fetch.max.bytes", "4096", "replica_fetch_max_bytes: 4096,"),
        ("replica.fetch.response.max.bytes", "8192", "replica_fetch_response_max_bytes: 8192,"),
        ("replica.fetch.backoff.ms", "333", "replica_fetch_backoff_ms: 333,"),
        ("replica.socket.timeout.ms", "9999", "replica_socket_timeout_ms: 9999,"),
        ("replica.high.watermark.checkpoint.interval.ms", "123", "high_watermark_checkpoint_interval_ms: 123,"),
        ("num.replica.fetchers", "3", "num_replica_fetchers: 3,"),
        ("min.insync.replicas", "2", "min_insync_replicas: 2,"),
    ] {
        let changed: Vec<String> = told(&[(name, value)]).into_iter().filter(|line| !before.contains(line)).collect();
        assert_eq!(changed, [expected], "{name}={value}");
    }
    let legacy =
        told(&[("replica.lag.max.messages", "4"), ("replica.lag.max.messages.comparison", "greater-or-equal")]);
    let has = |line: &str| legacy.iter().any(|it| it == line);
    assert!(has("limit: 4,") && has("comparison: GreaterOrEqual,"), "{legacy:?}");
    assert!(before.iter().any(|line| line == "replica_lag_max_messages: None,"), "off unless asked for");
    assert!(refusal("replica.lag.max.messages.comparison", "less").contains("greater, greater-or-equal"));
}
