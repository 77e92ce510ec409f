//! minisr-model: every interleaving of a small cluster, instead of many random ones of a large one.
//!
//! The code under test is the broker's own, as in the simulator: [`minisr_replica::Shard`] on a memory disk and the
//! metadata state machine of [`minisr_logic`]. What stands around it here is as small as it can be: a network that
//! delivers in any order, one metadata log, processes that die and come back. From one state every possible next
//! event is tried, and so on until nothing new appears; a state already seen (by the fingerprint of all that decides
//! its future) is not entered again. `stateright` does the bookkeeping.
//!
//! * [`bounds`]: how much may happen: what is not bounded never ends.
//! * [`world`]: the state: three brokers, messages under way, the metadata log, and what the properties remember.
//! * [`action`]: what may happen next, and how the world then is.
//! * [`history`]: what is checked as it happens; [`properties`]: what is checked of each state.
//! * [`report`]: running a check and saying what it found.
//!
//! Four things make it small without making it blind. A fetch that would be refused stays under way instead, since
//! the refused one would be sent again with the same content. A fetch waits at the leader as long as it takes, so an
//! idle cluster stands still. A message that can change nothing any more, whenever it arrives, is dropped. Metadata
//! that cannot change what a broker does is learnt at once.

pub mod action;
pub mod bounds;
pub mod broker;
pub mod history;
pub mod message;
pub mod properties;
pub mod report;
pub mod world;
