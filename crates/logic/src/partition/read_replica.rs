//! Where a consumer should read (KIP-392): at a follower in its own rack, if one is in sync and holds what it asks for.

use super::leader::Leader;
use crate::{BrokerId, Offset};

/// The follower that a consumer in `rack` should read `offset` from; `None`: here, at the leader.
///
/// Only members of the ISR are named, and only if their log covers the offset as far as this leader knows, so that the
/// consumer does not come back with "out of range" at once. The one that reaches furthest is named; among equals the
/// lowest id. A leader in the consumer's rack names nobody.
#[must_use]
pub fn preferred_read_replica<'a>(
    leader: &Leader,
    offset: Offset,
    rack: &str,
    rack_of: impl Fn(BrokerId) -> Option<&'a str>,
) -> Option<BrokerId> {
    let is_near = |id: BrokerId| rack_of(id) == Some(rack);
    if rack.is_empty() || is_near(leader.me()) {
        return None;
    }
    let log_end = |id: &BrokerId| {
        let follower = leader.follower(*id)?;
        let covers = |log_end: &Offset| offset <= *log_end && follower.log_start().is_some_and(|start| start <= offset);
        follower.counted().filter(covers)
    };
    let near = leader.isr().settled().iter().copied().filter(|id| *id != leader.me() && is_near(*id));
    let covering = near.filter_map(|id| Some((log_end(&id)?, std::cmp::Reverse(id))));
    covering.max().map(|(_, std::cmp::Reverse(id))| id)
}
