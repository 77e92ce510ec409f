//! The bug zoo: historically real bugs of Kafka-style replication, planted behind a switch, so that the simulator can
//! prove that it would have found them.
//!
//! This is the one list of all of them. A site reads `if zoo::planted(Bug::TruncateToHighWatermark)`. Without the
//! cargo feature `zoo`, which no build of the broker enables (`scripts/zoo-absent` checks that), [`planted`] is the
//! constant `false` and the branch is not compiled in. With it, one bug at a time is active in one thread, since a
//! simulated run is one thread and several of them run at once.
//!
//! Bug 118 lives in `storage`, which knows nothing of this crate and has a small switch of its own
//! (`minisr_storage::zoo`); the simulator sets both together.

/// A bug that can be planted. Numbers below 100 are those of the project's list of historical bugs; 100 + n is trap n
/// of the semantics reference (§8) where that list has no bug for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A follower cuts its log to its own high watermark when a new epoch begins, and is not compared by epoch.
    TruncateToHighWatermark,
    /// The same, but only in a life that began with a power loss.
    TruncateToHighWatermarkAfterPowerLoss,
    /// The leader answers where an epoch ends without saying which epoch it means.
    EpochlessEndOffset,
    /// No comparison of logs when the leader of the new epoch is the one of the epoch before.
    SkipTruncation,
    /// A new leader notes its epoch with the first record only, and a follower that gets no answer about an epoch
    /// cuts to its high watermark.
    EpochCacheLate,
    /// Fetches of older epochs are served and credited.
    UnfencedFetch,
    /// A follower may join the ISR as soon as it has reached the high watermark.
    JoinIsrOnStaleHighWatermark,
    /// The high watermark is computed over the committed ISR only.
    NotMaximalIsr,
    /// The controller does not compare the broker epochs of proposed members.
    StaleAlterPartition,
    /// The leader checks who fetches but not in which life, and names the present life in its proposal.
    CheckThenUse,
    /// An expansion that was proposed for one life of a broker is sent again for the next one.
    RemoveAndReAdd,
    /// The last replica standing keeps its seat although it restarted without all of its data.
    LastReplicaStanding,
    /// Where no ISR or ELR member lives, any live replica is elected.
    UncleanElection,
    /// A follower takes over the high watermark from an answer that tells it to cut.
    HighWatermarkBeforeTruncation,
    /// A follower whose log diverges is credited with its fetch offset.
    LogEndFromDivergingFetch,
    /// A new leader answers where the log ends from a high watermark that is older than its epoch.
    ServeStaleHighWatermark,
    /// A waiting read is bounded by the log end that is read when it is answered.
    TornRead,
    /// A waiting read is bounded by another high watermark than the one that it states.
    TwoHighWatermarkReads,
    /// Appends go on after an I/O error.
    AppendAfterError,
    /// A start that found data missing, and is stopped, leaves a clean-shutdown marker.
    FalseCleanMarker,
    /// A late answer to a fetch cuts what was appended since.
    StaleAppendTruncates,
    /// Whoever waits for an acknowledgement gets it when the leader steps down.
    AckAfterStepDown,
    /// Followers keep no producer state, and a new leader does not rebuild it.
    NoDedupAfterFailover,
    /// Under flush=commit, what is written counts.
    AckBeforeFlush,
    /// Neither the high watermark nor the answer looks at min.insync.replicas after the append.
    AckWithoutMinIsr,
    /// A proposed shrink counts before it is committed.
    AssumedShrink,
    /// An expansion whose answer was lost is given up.
    UnansweredProposalReverted,
    /// The controller refuses a proposal because of a member, and later accepts a late copy of it.
    RefusedCopyAccepted,
    /// A second life is registered while the first one holds its ISR seats, and inherits them.
    QuickUncleanRestart,
    /// A recognised duplicate is acknowledged at once.
    DuplicateAnsweredEarly,
    /// An answer to a fetch of an older epoch is appended in the next one, and the next question is not compared.
    OldResponseAppended,
    /// Recovery cuts a segment and keeps the later ones.
    TornMiddleSegment,
    /// A broker that was away while a topic was deleted and created anew takes the old log, by its name, for the new
    /// topic's.
    TopicRecreated,
    /// A leader that is elected anew keeps what it knew of its followers.
    MetadataSkipped,
}

/// Whether this bug is active.
#[cfg(not(feature = "zoo"))]
#[must_use]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "zoo")]
pub use active::{plant, planted};

#[cfg(feature = "zoo")]
mod active {
    use std::cell::Cell;

    use super::Bug;

    #[cfg(not(debug_assertions))]
    compile_error!("the bug zoo is not for optimised builds without debug assertions: somebody might run them");

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether this bug is active in this thread.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Activates one bug in this thread, or none; returns what was active before.
    pub fn plant(bug: Option<Bug>) -> Option<Bug> {
        PLANTED.replace(bug)
    }
}

/// What is known of a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// Where it was seen.
    pub source: &'static str,
}

impl Bug {
    /// All of them, by number.
    pub const ALL: [Self; 34] = [
        Self::TruncateToHighWatermark,
        Self::TruncateToHighWatermarkAfterPowerLoss,
        Self::EpochlessEndOffset,
        Self::SkipTruncation,
        Self::EpochCacheLate,
        Self::UnfencedFetch,
        Self::JoinIsrOnStaleHighWatermark,
        Self::NotMaximalIsr,
        Self::StaleAlterPartition,
        Self::CheckThenUse,
        Self::RemoveAndReAdd,
        Self::LastReplicaStanding,
        Self::UncleanElection,
        Self::HighWatermarkBeforeTruncation,
        Self::LogEndFromDivergingFetch,
        Self::ServeStaleHighWatermark,
        Self::TornRead,
        Self::TwoHighWatermarkReads,
        Self::AppendAfterError,
        Self::FalseCleanMarker,
        Self::StaleAppendTruncates,
        Self::AckAfterStepDown,
        Self::NoDedupAfterFailover,
        Self::AckBeforeFlush,
        Self::AckWithoutMinIsr,
        Self::AssumedShrink,
        Self::UnansweredProposalReverted,
        Self::QuickUncleanRestart,
        Self::RefusedCopyAccepted,
        Self::DuplicateAnsweredEarly,
        Self::OldResponseAppended,
        Self::TornMiddleSegment,
        Self::TopicRecreated,
        Self::MetadataSkipped,
    ];

    /// Number, name and source.
    #[must_use]
    pub const fn about(self) -> About {
        let (number, name, source) = match self {
            Self::TruncateToHighWatermark => (1, "truncate-to-hw", "KIP-101"),
            Self::TruncateToHighWatermarkAfterPowerLoss => (2, "truncate-to-hw, power loss", "KAFKA-3919"),
            Self::EpochlessEndOffset => (3, "epoch-less end offset", "KIP-279"),
            Self::SkipTruncation => (4, "skip-truncation", "KAFKA-7164"),
            Self::EpochCacheLate => (5, "epoch-cache-late", "KAFKA-7415"),
            Self::UnfencedFetch => (6, "unfenced-fetch", "KIP-320"),
            Self::JoinIsrOnStaleHighWatermark => (7, "join-isr-on-stale-hw", "KAFKA-7128"),
            Self::NotMaximalIsr => (8, "not-maximal-isr", "kafka-tlaplus, kip-966 6.5.2"),
            Self::StaleAlterPartition => (9, "stale-alter-partition", "KIP-903"),
            Self::CheckThenUse => (10, "check-then-use", "KAFKA-15221"),
            Self::RemoveAndReAdd => (11, "remove-and-re-add", "kafka-tlaplus, kip-966 6.5.4"),
            Self::LastReplicaStanding => (12, "last-replica-standing", "KIP-966"),
            Self::UncleanElection => (13, "unclean-election", "Kafka 0.8"),
            Self::HighWatermarkBeforeTruncation => (14, "hw-before-truncation", "KAFKA-14704"),
            Self::LogEndFromDivergingFetch => (15, "leo-from-diverging-fetch", "KAFKA-13141"),
            Self::ServeStaleHighWatermark => (16, "serve-stale-hw", "KIP-207"),
            Self::TornRead => (17, "torn-read", "KAFKA-9835"),
            Self::TwoHighWatermarkReads => (18, "two-hw-reads", "KAFKA-9807"),
            Self::AppendAfterError => (20, "append-after-eio", "KAFKA-10778"),
            Self::FalseCleanMarker => (21, "false-clean-marker", "KAFKA-15375"),
            Self::StaleAppendTruncates => (22, "stale-append-truncates", "redpanda 17731"),
            Self::AckAfterStepDown => (23, "ack-after-step-down", "redpanda 3003"),
            Self::NoDedupAfterFailover => (24, "no-dedup-after-failover", "redpanda 3039"),
            Self::AckBeforeFlush => (29, "ack-before-flush", "NATS 2.12 analysis"),
            Self::AckWithoutMinIsr => (32, "ack-without-min-isr", "KAFKA-4215"),
            Self::AssumedShrink => (107, "assumed-shrink", "trap 7"),
            Self::UnansweredProposalReverted => (108, "unanswered-proposal-reverted", "trap 8"),
            Self::QuickUncleanRestart => (109, "quick-unclean-restart", "trap 9"),
            Self::RefusedCopyAccepted => (110, "refused-copy-accepted", "found here"),
            Self::DuplicateAnsweredEarly => (115, "duplicate-answered-early", "trap 15"),
            Self::OldResponseAppended => (117, "old-response-appended", "trap 17"),
            Self::TornMiddleSegment => (118, "torn-middle-segment", "trap 18"),
            Self::TopicRecreated => (121, "topic-recreated", "trap 21"),
            Self::MetadataSkipped => (122, "metadata-skipped", "trap 22"),
        };
        About { number, name, source }
    }
}

/// Bugs of the same list that cannot be planted here, and why not.
pub const NOT_PLANTED: [(About, &str); 7] = [
    (
        About { number: 19, name: "leo-after-index", source: "KAFKA-7866" },
        "the index of a growing segment lives in memory; no write stands between the data and the log end",
    ),
    (About { number: 25, name: "sequence-reuse", source: "redpanda" }, "needs transactions, which are not built"),
    (
        About { number: 26, name: "elected-not-ready", source: "redpanda 5025" },
        "needs coordinators, which are not built",
    ),
    (
        About { number: 27, name: "two-voters-at-once", source: "redpanda" },
        "Raft membership is openraft's; the simulator models the metadata log as one ordered sequence",
    ),
    (About { number: 28, name: "loose-end-txn", source: "KIP-890" }, "needs transactions, which are not built"),
    (About { number: 30, name: "clean-past-hw", source: "KAFKA-13194" }, "needs compaction, which is not built"),
    (
        About { number: 31, name: "offsets-expire-early", source: "KAFKA-8069" },
        "needs consumer groups, which are not built",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn zoo_numbers_each_bug_once_and_in_order() {
        let planted = Bug::ALL.map(|bug| bug.about().number);
        assert!(planted.windows(2).all(|pair| pair[0] < pair[1]), "{planted:?}");
        let absent = NOT_PLANTED.iter().map(|(about, _)| about.number);
        let all: BTreeSet<u16> = planted.into_iter().chain(absent).collect();
        assert_eq!(all.len(), Bug::ALL.len() + NOT_PLANTED.len());
        // 33, the canary, is the simulator's own.
        assert!((1..=32).all(|number| all.contains(&number)), "{all:?}");
    }

    #[cfg(not(feature = "zoo"))]
    #[test]
    fn zoo_is_empty_without_its_feature() {
        assert!(Bug::ALL.into_iter().all(|bug| !planted(bug)));
    }
}
