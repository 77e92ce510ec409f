//! The metadata state machine from outside: stories of single races, and properties of random command sequences.

mod elections;
mod properties;
mod racks;
mod reassignment;
mod stories;
mod vocabulary;
