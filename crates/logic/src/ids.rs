//! The small types that every crate above shares: ids, epochs, offsets and points in time.
//!
//! Each is a newtype so that a leader epoch cannot be passed where a partition epoch is meant; the field is public
//! because the wire and the disk hold the bare number.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// A broker's id, `node.id` in its settings. Never negative.
    BrokerId(i32)
}
number! {
    /// A leader epoch: raised at every election, stamped into every batch. −1 on the wire means "unknown"; here
    /// an unknown epoch is an absent `Option`.
    Epoch(i32)
}
number! {
    /// A partition epoch: raised at every change of a partition's metadata; the compare-and-set of AlterPartition.
    PartitionEpoch(i32)
}
number! {
    /// A broker epoch: the metadata log index of a broker's registration, so unique and rising.
    BrokerEpoch(i64)
}
number! {
    /// A position in a partition's log, in records.
    Offset(i64)
}
number! {
    /// A point in time in milliseconds since an origin that the caller chose; only differences mean anything.
    Millis(u64)
}

impl Offset {
    /// The start of an empty log.
    pub const ZERO: Self = Self(0);

    /// The offset `records` further along.
    #[must_use]
    pub const fn plus(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl Millis {
    /// The point `duration_ms` later.
    #[must_use]
    pub const fn plus(self, duration_ms: u64) -> Self {
        Self(self.0.saturating_add(duration_ms))
    }

    /// Milliseconds from `earlier` to here; 0 when `earlier` is in fact later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A topic's id (a UUID's 128 bits), which tells a recreated topic from its namesake (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TopicId(pub u128);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({:032x})", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TopicPartition {
    /// The topic's id.
    pub topic: TopicId,
    /// The partition's index within its topic, from 0.
    pub partition: i32,
}
