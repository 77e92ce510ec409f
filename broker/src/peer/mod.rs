//! Links between brokers.
//!
//! | Module | What it is for |
//! |---|---|
//! | `fetcher` | the connections that replica fetches travel on |
//! | `isr` | ISR proposals to the controller, and the answers back |
//! | [`liveness`] | TCP connections that tell when another broker's process has died |

mod fetcher;
mod isr;
pub mod liveness;

pub use fetcher::PeerLinks;
