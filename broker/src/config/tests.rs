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
    assert!(refusal("zookeeper.session.timeout.ms", "6000").contains("broker.session.timeout.ms"));
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
fn missing_settings_are_named() {
    let mut values = base();
    values.remove("log.dirs");
    assert!(Settings::from_values(&values).expect_err("required").to_string().contains("log.dirs is missing"));
}
