//! leader
/// Why an AlterPartition was not applied, by what the leader may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterPartitionError {
    /// 107: a proposed member is fenced, shutting down, or of another broker epoch. Certainly not applied: the leader
    /// goes back to the committed ISR.
    IneligibleReplica,
    /// 55: certainly not attempted: the same.
    OperationNotAttempted,
    /// 3, 42, 74, 95, 100, 108: the leader's view is behind. The proposal stays pending until metadata arrives.
    MetadataBehind,
    /// Everything else, no answer included: it may have been applied. The same proposal is sent again.
    Unknown,
}
