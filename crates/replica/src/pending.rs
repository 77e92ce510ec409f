//! Stand-ins until `minisr_logic::metadata::Image` and `minisr_storage::disk::Disk` are there.

/// Stands for `minisr_logic::metadata::Image`.
#[derive(Debug)]
pub struct Image;

/// Stands for `minisr_storage::disk::Disk`.
pub trait Disk {
    /// As there.
    type SyncHandle: Clone + std::fmt::Debug + Send + 'static;
}
