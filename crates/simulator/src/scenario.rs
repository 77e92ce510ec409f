//! Schedules as text: what a shrunk failure is printed as, saved as and replayed from.
//!
//! One line each, `#` begins a comment. First the plan, then the events in order of time:
//!
//! ```text
//! # what the story is about
//! plan brokers=3 partitions=1 replication-factor=2 min-insync-replicas=1 …
//! at 3100 produce producer=0 partition=0 records=1
//! at 3120 slow fetch-reply from=1 to=2 nth=0 by=900
//! at 3400 kill-process broker=1 back=500 noticed=20
//! ```
//!
//! Settings that a plan line does not name have the values of [`Plan::quiet`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use minisr_replica::{FlushPolicy, LagComparison, LagMaxMessages};

use crate::cluster::{MessageKind, faults};
use crate::plan::{Plan, ProducerKind, Rates};
use crate::schedule::{Action, Effect, Event, Node, Parameters, Schedule};

/// A line that is no part of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    line: usize,
    what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ScenarioError {}

/// Name, reader and writer of each setting of a plan.
macro_rules! settings {
    ($($name:literal $field:ident),* $(,)?) => {
        fn set(plan: &mut Plan, name: &str, value: &str) -> Result<(), String> {
            match name {
                $($name => plan.$field = parsed(name, value)?,)*
                "flush" => plan.flush = flush(value)?,
                "lag-max-messages" => plan.lag_max_messages = Some(lag_max_messages(value)?),
                "producers" => plan.producers = value.split(',').map(producer).collect::<Result<_, _>>()?,
                _ => return Err(format!("there is no setting {name}")),
            }
            Ok(())
        }

        fn values(plan: &Plan) -> Vec<(&'static str, String)> {
            let producers: Vec<&str> = plan.producers.iter().map(|it| producer_name(*it)).collect();
            let flush = match plan.flush {
                FlushPolicy::Never => "never".to_owned(),
                FlushPolicy::Interval { interval_ms } => format!("interval:{interval_ms}"),
                FlushPolicy::Commit => "commit".to_owned(),
            };
            let legacy = plan.lag_max_messages.map(|rule| ("lag-max-messages", lag_rule(rule)));
            let given = vec![$(($name, plan.$field.to_string()),)* ("flush", flush), ("producers", producers.join(","))];
            given.into_iter().chain(legacy).collect()
        }
    };
}

settings! {
    "brokers" brokers,
    "partitions" partitions,
    "replication-factor" replication_factor,
    "min-insync-replicas" min_insync_replicas,
    "consumers" consumers,
    "seed" seed,
    "calm" calm,
    "safety-ms" safety_ms,
    "delay-max-ms" delay_max_ms,
    "together-permille" together_permille,
    "turn-permille" turn_permille,
    "segment-bytes" segment_bytes,
    "session-timeout-ms" session_timeout_ms,
    "heartbeat-interval-ms" heartbeat_interval_ms,
    "lag-time-max-ms" lag_time_max_ms,
    "fetch-wait-max-ms" fetch_wait_max_ms,
    "high-watermark-delay-max-ms" high_watermark_delay_max_ms,
    "replica-fetchers" replica_fetchers,
}

impl Plan {
    /// A small cluster on which nothing is drawn: what a scenario begins with.
    #[must_use]
    pub fn quiet() -> Self {
        Self {
            seed: 0,
            calm: true,
            brokers: 3,
            partitions: 1,
            replication_factor: 3,
            min_insync_replicas: 1,
            flush: FlushPolicy::Never,
            segment_bytes: 1 << 20,
            session_timeout_ms: 900,
            heartbeat_interval_ms: 200,
            lag_time_max_ms: 900,
            lag_max_messages: None,
            fetch_wait_max_ms: 200,
            high_watermark_delay_max_ms: 5,
            replica_fetchers: 1,
            safety_ms: 10_000,
            together_permille: 0,
            turn_permille: 0,
            delay_max_ms: 2,
            producers: vec![ProducerKind::Idempotent],
            consumers: 1,
            rates: Rates::default(),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for few in values(&self.plan).chunks(5) {
            f.write_str("plan")?;
            few.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))?;
            f.write_str("\n")?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} ", self.at_ms)?;
        match &self.action {
            Action::Fault { name, parameters } => {
                f.write_str(name)?;
                parameters.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Action::Message { kind, from, to, nth, effect } => {
                let kind = kind.name();
                let (verb, by) = match effect {
                    Effect::Lost => ("lose", None),
                    Effect::Slow { by_ms } => ("slow", Some(by_ms)),
                    Effect::Twice { by_ms } => ("twice", Some(by_ms)),
                };
                write!(f, "{verb} {kind} from={from} to={to}")?;
                if *nth > 0 {
                    write!(f, " nth={nth}")?;
                }
                by.map_or(Ok(()), |by| write!(f, " by={by}"))
            }
            Action::Produce { producer, partition, records } => {
                write!(f, "produce producer={producer} partition={partition} records={records}")
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let mut schedule = Self { plan: Plan::quiet(), events: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            read_line(&mut schedule, line).map_err(|what| ScenarioError { line: index + 1, what })?;
        }
        // Actions of one time keep their order.
        schedule.events.sort_by_key(|event| event.at_ms);
        Ok(schedule)
    }
}

fn read_line(schedule: &mut Schedule, line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    match words.next() {
        None => Ok(()),
        Some("plan") => {
            words.try_for_each(|word| pair(word).and_then(|(name, value)| set(&mut schedule.plan, name, value)))
        }
        Some("at") => {
            let at_ms = parsed("the time", words.next().unwrap_or_default())?;
            let verb = words.next().ok_or("nothing happens then")?;
            schedule.events.push(Event { at_ms, action: action(verb, words)? });
            Ok(())
        }
        Some(other) => Err(format!("a line begins with \"plan\" or \"at\", not with \"{other}\"")),
    }
}

fn action<'a>(verb: &str, mut words: impl Iterator<Item = &'a str>) -> Result<Action, String> {
    if let Some(fault) = faults::named(verb) {
        let mut parameters = Parameters::default();
        for word in words {
            let (name, value) = pair(word)?;
            parameters = parameters.with(name, value);
        }
        return Ok(Action::Fault { name: fault.name, parameters });
    }
    let kind = if verb == "produce" { "" } else { words.next().unwrap_or_default() };
    let given: BTreeMap<&str, &str> = words.map(pair).collect::<Result<_, _>>()?;
    let number = |name| given.get(name).map_or(Ok(0), |value| parsed(name, value));
    if verb == "produce" {
        let records = if given.contains_key("records") { number("records")? } else { 1 };
        return Ok(Action::Produce {
            producer: number("producer")?,
            partition: number("partition")? as i32,
            records: records as i32,
        });
    }
    let by_ms = given.get("by").map_or(Ok(0), |value| parsed("by", value))?;
    let effect = match verb {
        "lose" => Effect::Lost,
        "slow" => Effect::Slow { by_ms },
        "twice" => Effect::Twice { by_ms },
        _ => return Err(format!("there is no fault \"{verb}\"")),
    };
    let kind = MessageKind::named(kind).ok_or_else(|| format!("there is no message \"{kind}\""))?;
    let node = |name| given.get(name).ok_or_else(|| format!("{name}= is missing"))?.parse::<Node>();
    Ok(Action::Message { kind, from: node("from")?, to: node("to")?, nth: number("nth")?, effect })
}

fn pair(word: &str) -> Result<(&str, &str), String> {
    word.split_once('=').ok_or_else(|| format!("\"{word}\" is not name=value"))
}

fn parsed<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} cannot be \"{value}\""))
}

fn flush(value: &str) -> Result<FlushPolicy, String> {
    match value.split_once(':') {
        Some(("interval", ms)) => Ok(FlushPolicy::Interval { interval_ms: parsed("flush", ms)? }),
        None if value == "never" => Ok(FlushPolicy::Never),
        None if value == "commit" => Ok(FlushPolicy::Commit),
        _ => Err(format!("flush cannot be \"{value}\": never, interval:MS, commit")),
    }
}

/// `>N` or `>=N`.
fn lag_max_messages(value: &str) -> Result<LagMaxMessages, String> {
    let rule = match value.strip_prefix(">=") {
        Some(limit) => limit.parse().map(|limit| (limit, LagComparison::GreaterOrEqual)),
        None => value.strip_prefix('>').unwrap_or_default().parse().map(|limit| (limit, LagComparison::Greater)),
    };
    let (limit, comparison) = rule.map_err(|_| format!("lag-max-messages cannot be \"{value}\": >N or >=N"))?;
    Ok(LagMaxMessages { limit, comparison })
}

fn lag_rule(rule: LagMaxMessages) -> String {
    match rule.comparison {
        LagComparison::Greater => format!(">{}", rule.limit),
        LagComparison::GreaterOrEqual => format!(">={}", rule.limit),
    }
}

const PRODUCERS: [(ProducerKind, &str); 4] = [
    (ProducerKind::Idempotent, "idempotent"),
    (ProducerKind::All, "all"),
    (ProducerKind::Leader, "leader"),
    (ProducerKind::None, "none"),
];

fn producer_name(kind: ProducerKind) -> &'static str {
    PRODUCERS.into_iter().find(|it| it.0 == kind).map_or("", |it| it.1)
}

fn producer(name: &str) -> Result<ProducerKind, String> {
    let known = PRODUCERS.into_iter().find(|it| it.1 == name);
    known.map(|it| it.0).ok_or_else(|| format!("there is no producer \"{name}\": idempotent, all, leader, none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "at 3100 produce producer=1 partition=0 records=2
at 3120 slow fetch-reply from=1 to=2 by=900
at 3121 lose register from=3 to=controller nth=1
at 3122 twice produce from=client-0 to=1 by=7
at 3400 kill-process back=500 broker=1 noticed=20
";

    #[test]
    fn scenario_is_printed_as_it_was_read() {
        let story = format!("plan seed=7 calm=false flush=interval:40 producers=idempotent,none\n{EVENTS}");
        let schedule: Schedule = story.parse().expect("a scenario");
        let printed = schedule.to_string();
        assert!(printed.ends_with(EVENTS), "{printed}");
        assert_eq!(printed.parse::<Schedule>().expect("a scenario"), schedule, "every setting is printed");
        assert_eq!(schedule.plan.flush, FlushPolicy::Interval { interval_ms: 40 });
        assert_eq!(schedule.plan.producers, [ProducerKind::Idempotent, ProducerKind::None]);
    }

    #[test]
    fn scenario_ignores_comments_and_fills_in_a_quiet_plan() {
        let schedule: Schedule = "# nothing\nplan brokers=5 # five\n\n".parse().expect("a scenario");
        assert_eq!(schedule, Schedule { plan: Plan { brokers: 5, ..Plan::quiet() }, events: Vec::new() });
    }

    #[test]
    fn scenario_names_the_rule_by_messages_where_it_is_on() {
        for rule in ["lag-max-messages=>4", "lag-max-messages=>=1"] {
            let schedule: Schedule = format!("plan {rule}").parse().expect("a scenario");
            assert!(schedule.to_string().contains(rule), "{schedule}");
        }
    }

    #[test]
    fn scenario_with_a_wrong_line_names_it() {
        let wrong = [
            "kill 3",
            "plan brokers=x",
            "plan speed=3",
            "plan lag-max-messages=4",
            "at noon pause broker=1",
            "at 7 meteor",
            "at 7 lose gossip from=1 to=2",
            "at 7 lose fetch from=1",
        ];
        for line in wrong {
            let error = format!("# first\n{line}").parse::<Schedule>().expect_err(line);
            assert_eq!(error.line, 2, "{error}");
        }
    }
}
