//! What the kernel takes for replicated bytes with nothing around it, by the calls that brokers make and by those that they
//! could make instead.
//!
//! One thread appends frames of 64 KiB to a file and sends each to two others over loopback TCP, which append them to files
//! of their own: the way of a record but for the producer's hop, the checks and the protocol. The ways take turns; medians
//! of five, smallest and largest. `just bench-parts --bench kernel`; docs/PERFORMANCE.md says what follows from it.
//!
//! Files are removed after each run, so the next writes into pages that the machine has at hand.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod chain;
#[cfg(target_os = "linux")]
mod ring;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    chain::compare()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("sendfile, splice and io_uring as compared here are Linux's");
}
