//! Stories and properties of batches.
