//! The historical bug that lives here, behind a switch. The list of all, with sources, is `minisr_logic::zoo`, which
//! this crate does not depend on; without the feature `zoo` the switch is the constant `false`.

/// A bug of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Recovery cuts a segment and keeps the later ones.
    TornMiddleSegment,
}

/// Whether this bug is active.
#[cfg(not(feature = "zoo"))]
#[inline(always)]
pub(crate) const fn planted(_flaw: Flaw) -> bool {
    false
}

#[cfg(feature = "zoo")]
pub use active::plant;
#[cfg(feature = "zoo")]
pub(crate) use active::planted;

#[cfg(feature = "zoo")]
mod active {
    use std::cell::Cell;

    use super::Flaw;

    thread_local! {
        static PLANTED: Cell<Option<Flaw>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(flaw: Flaw) -> bool {
        PLANTED.get() == Some(flaw)
    }

    /// Activates one bug in this thread, or none.
    pub fn plant(flaw: Option<Flaw>) {
        PLANTED.set(flaw);
    }
}
