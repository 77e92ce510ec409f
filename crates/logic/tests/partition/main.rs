//! The partition machines: properties of their parts, and stories of the leader's rules.

mod cursors;
mod epochs;
mod lag;
mod leader;
mod producers;
