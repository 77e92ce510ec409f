//! Checkpoints that are a list of numbers: a version line, a line with the number of entries, one line each.

use super::CheckpointError;
use std::collections::BTreeMap;
use std::fmt::Write;

const VERSION: &str = "0";

/// `topic partition offset` lines.
#[must_use]
pub fn encode_offsets(offsets: &BTreeMap<(String, i32), i64>) -> String {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        writeln!(text, "{topic} {partition} {offset}").expect("writing to a string cannot fail");
    }
    text
}

/// Reads `topic partition offset` lines; `name` is for the error.
pub fn decode_offsets(name: &str, text: &str) -> Result<BTreeMap<(String, i32), i64>, CheckpointError> {
    let parse = |line: &str| {
        let mut fields = line.split(' ');
        let entry: ((String, i32), i64) =
            ((fields.next()?.to_owned(), fields.next()?.parse().ok()?), fields.next()?.parse().ok()?);
        // Where a power loss left a hole in the file there are zeros, which are no topic's name.
        let legal = |name: &str| name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it));
        (fields.next().is_none() && legal(&entry.0.0)).then_some(entry)
    };
    let entries = decode(name, text, parse)?;
    let count = entries.len();
    let offsets: BTreeMap<_, _> = entries.into_iter().collect();
    if offsets.len() < count {
        return Err(CheckpointError::malformed(name, "a partition is listed twice"));
    }
    Ok(offsets)
}

/// `epoch start-offset` lines, in rising order of both.
#[must_use]
pub fn encode_leader_epochs(epochs: &[(i32, i64)]) -> String {
    let mut text = format!("{VERSION}\n{}\n", epochs.len());
    for (epoch, start) in epochs {
        writeln!(text, "{epoch} {start}").expect("writing to a string cannot fail");
    }
    text
}

/// Reads `epoch start-offset` lines; `name` is for the error.
pub fn decode_leader_epochs(name: &str, text: &str) -> Result<Vec<(i32, i64)>, CheckpointError> {
    let parse = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse().ok()?, start.parse().ok()?))
    };
    let epochs: Vec<(i32, i64)> = decode(name, text, parse)?;
    if epochs.windows(2).any(|pair| pair[0].0 >= pair[1].0 || pair[0].1 >= pair[1].1) {
        return Err(CheckpointError::malformed(name, "epochs and their starts have to rise"));
    }
    Ok(epochs)
}

fn decode<T>(name: &str, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, CheckpointError> {
    let mut lines = text.lines();
    let version = lines.next();
    if version != Some(VERSION) {
        return Err(CheckpointError::malformed(name, format!("version is {version:?}, not {VERSION}")));
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| CheckpointError::malformed(name, "the second line is not a number of entries"))?;
    let mut entries = Vec::new();
    for line in lines {
        let entry = parse(line).ok_or_else(|| CheckpointError::malformed(name, format!("entry {line:?}")))?;
        entries.push(entry);
    }
    if entries.len() != count {
        return Err(CheckpointError::malformed(name, format!("{} entries in place of {count}", entries.len())));
    }
    Ok(entries)
}
