//! The canary: a replica's log is doctored as if bytes had changed on the way. It must be reported, which proves that
//! the alarm rings.

use super::{Cluster, FaultType};
use crate::schedule::Parameters;
use crate::state::Fact;

/// Plants a violation. No seed draws it.
pub const CANARY: FaultType =
    FaultType { name: "canary", seeds_permille: 0, draw: |_, _| Some(Parameters::default()), strike };

fn strike(cluster: &mut Cluster, _: &Parameters) {
    let longest = cluster.state.replicas.iter_mut().max_by_key(|(_, replica)| replica.log.len());
    if let Some((place, replica)) = longest
        && let Some(last) = replica.log.last_mut()
    {
        last.bytes_hash ^= 1;
        last.prefix_hash ^= 1;
        let (place, from_index) = (*place, replica.log.len() - 1);
        cluster.facts.push(Fact::Appended { place, from_index });
        cluster.trace.write(cluster.now, format_args!("the canary sings at {place:?}"));
    }
}
