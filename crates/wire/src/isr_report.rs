//! What a leader tells about the in-sync replicas of a partition, as a tagged field of Metadata.
//!
//! A client that wants it adds the empty tagged field [`REQUEST_TAG`] to its MetadataRequest; the broker then adds
//! [`RESPONSE_TAG`] to each partition of the answer that it leads itself. To every other client, and at every other
//! broker, nothing changes: unknown tagged fields are skipped by Kafka's rules.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Tagged field of a MetadataRequest: please report. It has no content.
pub const REQUEST_TAG: i32 = 100;
/// Tagged field of a partition in a MetadataResponse: a report.
pub const RESPONSE_TAG: i32 = 100;

/// Bytes of one follower that lags.
const LAG_BYTES: usize = 4 + 1 + 8;
/// Bytes of one change.
const CHANGE_BYTES: usize = 8 + 8 + 4 + 4 + 1 + 1 + 8 + 4;

/// How a follower is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LagKind {
    /// Has sent no fetch for `replica.lag.time.max.ms`; or is outside the ISR and fenced or stopping.
    Stuck,
    /// A member that fetches, but has not reached the log end for that time.
    Slow,
    /// Outside the ISR, catching up.
    Bootstrapping,
}

/// Why a replica left the ISR, or joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IsrReason {
    /// Left: no fetch for `replica.lag.time.max.ms`.
    Stuck,
    /// Left: it fetched, but had not reached the log end for that time.
    Slow,
    /// Left: it lacked too many records (`replica.lag.max.messages`).
    Messages,
    /// Left: its broker was fenced.
    Fenced,
    /// Left: its broker is stopping.
    ShuttingDown,
    /// Left: it is no replica any more.
    Unassigned,
    /// Left or joined by a change of the controller's own.
    Controller,
    /// Joined: it had caught up.
    CaughtUp,
}

macro_rules! numbered {
    ($kind:ident: $($variant:ident = $number:literal $name:literal),*) => {
        impl $kind {
            /// The name in logs and files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            const fn number(self) -> u8 {
                match self { $( Self::$variant => $number, )* }
            }

            const fn from_number(number: u8) -> Option<Self> {
                match number { $( $number => Some(Self::$variant), )* _ => None }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

numbered!(LagKind: Stuck = 1 "stuck", Slow = 2 "slow", Bootstrapping = 3 "bootstrapping");
numbered!(IsrReason: Stuck = 1 "stuck", Slow = 2 "slow", Messages = 3 "lag-messages", Fenced = 4 "fenced",
    ShuttingDown = 5 "shutting-down", Unassigned = 6 "unassigned", Controller = 7 "controller",
    CaughtUp = 8 "caught-up");

/// A follower that lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagging {
    /// Its broker.
    pub broker: i32,
    /// How.
    pub kind: LagKind,
    /// Records it lacks; `None` when this leader has not heard from it.
    pub lacks_records: Option<i64>,
}

/// One member left or joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrChange {
    /// Rises by one with each change that the answering process has noted for the partition.
    pub number: i64,
    /// Milliseconds from then to the answer.
    pub ago_ms: i64,
    /// The leader epoch in which it was noted.
    pub leader_epoch: i32,
    /// Who.
    pub broker: i32,
    /// Joined; otherwise left.
    pub joined: bool,
    /// Why.
    pub reason: IsrReason,
    /// Records it lacked when its removal was proposed, where that is known.
    pub lacked_records: Option<i64>,
    /// Members of the ISR afterwards.
    pub isr_size: i32,
}

/// The report of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IsrReport {
    /// Changes in which somebody left, since the answering process began.
    pub shrinks: i64,
    /// Changes in which somebody joined.
    pub expansions: i64,
    /// Followers that lag now.
    pub lagging: Vec<Lagging>,
    /// The newest changes, oldest first.
    pub changes: Vec<IsrChange>,
}

impl fmt::Display for Lagging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lacks_records {
            Some(records) => write!(f, "{} {}, lacks {records} records", self.broker, self.kind),
            None => write!(f, "{} {}, not heard from", self.broker, self.kind),
        }
    }
}

impl fmt::Display for IsrChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.broker, self.reason)?;
        self.lacked_records.map_or(Ok(()), |records| write!(f, ", lacked {records} records"))
    }
}

impl IsrReport {
    /// The newest change in which `broker` left, or joined.
    #[must_use]
    pub fn newest(&self, broker: i32, joined: bool) -> Option<&IsrChange> {
        self.changes.iter().rev().find(|change| (change.broker, change.joined) == (broker, joined))
    }

    /// Why these left and those joined, as far as it is told, in words.
    #[must_use]
    pub fn explain(&self, left: &[i32], joined: &[i32]) -> String {
        let left = left.iter().filter_map(|&broker| self.newest(broker, false));
        let joined = joined.iter().filter_map(|&broker| self.newest(broker, true));
        left.chain(joined).map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// The content of the tagged field.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes =
            BytesMut::with_capacity(8 + 8 + 4 + 4 + self.lagging.len() * LAG_BYTES + self.changes.len() * CHANGE_BYTES);
        bytes.put_i64(self.shrinks);
        bytes.put_i64(self.expansions);
        bytes.put_u32(u32::try_from(self.lagging.len()).expect("as many as replicas"));
        for lagging in &self.lagging {
            bytes.put_i32(lagging.broker);
            bytes.put_u8(lagging.kind.number());
            bytes.put_i64(lagging.lacks_records.unwrap_or(-1));
        }
        bytes.put_u32(u32::try_from(self.changes.len()).expect("a bounded list"));
        for change in &self.changes {
            bytes.put_i64(change.number);
            bytes.put_i64(change.ago_ms);
            bytes.put_i32(change.leader_epoch);
            bytes.put_i32(change.broker);
            bytes.put_u8(u8::from(change.joined));
            bytes.put_u8(change.reason.number());
            bytes.put_i64(change.lacked_records.unwrap_or(-1));
            bytes.put_i32(change.isr_size);
        }
        bytes.freeze()
    }

    /// Reads the content of the tagged field; `None` when it is not one of this form.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let known = |records: i64| Some(records).filter(|records| *records >= 0);
        let (shrinks, expansions) = (bytes.try_get_i64().ok()?, bytes.try_get_i64().ok()?);
        let lagging = list(&mut bytes, LAG_BYTES, |bytes| {
            Some(Lagging {
                broker: bytes.get_i32(),
                kind: LagKind::from_number(bytes.get_u8())?,
                lacks_records: known(bytes.get_i64()),
            })
        })?;
        let changes = list(&mut bytes, CHANGE_BYTES, |bytes| {
            Some(IsrChange {
                number: bytes.get_i64(),
                ago_ms: bytes.get_i64(),
                leader_epoch: bytes.get_i32(),
                broker: bytes.get_i32(),
                joined: bytes.get_u8() != 0,
                reason: IsrReason::from_number(bytes.get_u8())?,
                lacked_records: known(bytes.get_i64()),
                isr_size: bytes.get_i32(),
            })
        })?;
        bytes.is_empty().then_some(Self { shrinks, expansions, lagging, changes })
    }
}

/// A counted list of entries of a fixed size; a count that the bytes cannot hold is refused before memory is taken.
fn list<T>(bytes: &mut &[u8], size: usize, mut entry: impl FnMut(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    if count.checked_mul(size)? > bytes.len() {
        return None;
    }
    (0..count).map(|_| entry(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report() -> IsrReport {
        let lagging = Lagging { broker: 3, kind: LagKind::Bootstrapping, lacks_records: None };
        let change = IsrChange {
            number: 9,
            ago_ms: 120,
            leader_epoch: 4,
            broker: 2,
            joined: false,
            reason: IsrReason::Messages,
            lacked_records: Some(4),
            isr_size: 1,
        };
        let joined = IsrChange { joined: true, reason: IsrReason::CaughtUp, lacked_records: None, ..change };
        IsrReport { shrinks: 5, expansions: 4, lagging: vec![lagging], changes: vec![change, joined] }
    }

    #[test]
    fn isr_report_comes_back_as_it_was() {
        for report in [IsrReport::default(), report()] {
            assert_eq!(IsrReport::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn isr_report_explains_in_words() {
        assert_eq!(report().explain(&[2], &[]), "2 lag-messages, lacked 4 records");
        assert_eq!(report().explain(&[], &[2]), "2 caught-up");
        assert_eq!(report().explain(&[3], &[1]), "", "nothing is known of them");
        assert_eq!(report().lagging[0].to_string(), "3 bootstrapping, not heard from");
    }

    #[test]
    fn isr_report_cut_short_or_with_more_behind_is_refused() {
        let bytes = report().encode();
        for end in 0..bytes.len() {
            assert_eq!(IsrReport::decode(&bytes[..end]), None, "{end} bytes");
        }
        assert_eq!(IsrReport::decode(&[&bytes[..], &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn isr_report_of_any_bytes_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = IsrReport::decode(&bytes);
        }
    }
}
