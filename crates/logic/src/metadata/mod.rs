//! The cluster metadata: an [`Image`], changed only by [`Command`]s applied in log order by [`apply`].
//!
//! ```text
//!   controller ── propose(Command) ──> replicated log ── apply(image, index, command) ──> Image (every broker)
//! ```
//!
//! Every compare-and-set (broker epoch, leader epoch, partition epoch, ISR eligibility) happens *inside* [`apply`],
//! because commands of others may stand between a proposal and its turn. A refused command changes nothing but the
//! image's version (an ISR proposal with an ineligible member also the partition epoch: no copy of it may count). There is no clock and no randomness here: session expiry is a [`Command::FenceBroker`] that names
//! the broker epoch it means, topic ids and incarnations come in with the commands. Two replicas that apply the same
//! log hold equal images.
//!
//! Invariants (numbers of the semantics reference), asserted as each partition is changed and by [`Image::check`]:
//!
//! * 2: leader and partition epochs never decrease; a new leader implies a higher leader epoch ([`check_step`]).
//! * 11: ISR ⊆ replicas, ELR ⊆ replicas, ISR ∩ ELR = ∅; a leader is a member of the ISR.
//! * 12: the ISR is empty exactly when there is no leader.
//! * 14: no fenced or shutting-down broker is in an ISR.
//! * 29: every applied command passed its epoch checks at apply; equal logs give equal images.
//! * 30: broker epochs are unique and rise; a producer id is handed out once.
//!
//! Elections are clean (see [`Partition`]): out of the ISR, and when that is empty out of the ELR (KIP-966). A partition
//! in which nobody of either can lead waits for one of them, or for [`Command::ElectLeader`] with an unclean
//! [`Election`]: somebody asked for it, or `unclean.leader.election.enable` says so. Electing the last-known leader is
//! an unclean election too. [`Partition::last_unclean_epoch`] tells that there was one.

mod apply;
mod balance;
mod check;
mod command;
mod elect_leader;
mod election;
mod errors;
mod growth;
mod image;
mod placement;
mod racks;
mod reassignment;
mod throttle;
mod topic_name;

pub use apply::apply;
pub use check::{InvariantViolation, check_step};
pub use command::{Assignment, Command, Election, IsrMember, PRODUCER_ID_BLOCK_LEN, Reply};
pub use errors::{
    AlterPartitionError, AssignmentFault, BrokerEpochError, CommandError, CreateTopicError, DeleteTopicError,
    ElectLeaderError, RegisterError, TopicConfigError, UnfenceError,
};
pub use growth::{AlterVoterError, BrokerConfigError, CreatePartitionsError, UnregisterError};
pub use image::{Image, Listener, Partition, Registration, Topic, TopicChange};
pub use placement::PARTITIONS_PER_TOPIC_MAX;
pub use reassignment::{Reassignment, ReassignmentError};
pub use throttle::{
    DYNAMIC_BROKER_CONFIGS, FOLLOWER_THROTTLED_RATE, FOLLOWER_THROTTLED_REPLICAS, LEADER_THROTTLED_RATE,
    LEADER_THROTTLED_REPLICAS, ThrottledReplicas,
};
pub use topic_name::{TopicNameError, validate_topic_name};
