//! The durability table as CSV and as Markdown. `README.md` holds the Markdown of the committed CSV, and a test sees to
//! it that it does.

use std::fmt::Write as _;

use super::{Acks, Settings, Survives};

/// Before the table in `README.md`.
pub const BEGIN: &str = "<!-- durability-table: written by `just durability-table` -->";
/// After it.
pub const END: &str = "<!-- /durability-table -->";

const HEADER: &str = "replication_factor,min_insync_replicas,acks,writing_survives,data_survives_kills,\
                      data_survives_wipes_all_in_sync,data_survives_wipes_guaranteed,simulated_runs,process_rounds";

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Of what settings.
    pub settings: Settings,
    /// What the simulator measured and the processes confirmed.
    pub survives: Survives,
    /// Rounds of real processes.
    pub process_rounds: u64,
}

/// The rows as CSV.
#[must_use]
pub fn to_csv(rows: &[Row]) -> String {
    let mut csv = format!("{HEADER}\n");
    for Row { settings, survives, process_rounds } in rows {
        let Settings { replication_factor, min_insync_replicas, acks } = settings;
        let Survives { writing, data_killed, data_wiped, data_wiped_minimal, runs } = survives;
        writeln!(
            csv,
            "{replication_factor},{min_insync_replicas},{acks},{writing},{data_killed},{data_wiped},\
             {data_wiped_minimal},{runs},{process_rounds}"
        )
        .expect("writing to a string");
    }
    csv
}

/// The rows of a CSV file.
pub fn from_csv(csv: &str) -> Result<Vec<Row>, String> {
    let mut lines = csv.lines();
    if lines.next() != Some(HEADER) {
        return Err("the header is another one".to_owned());
    }
    lines.map(|line| row(line).ok_or_else(|| format!("not a row: {line}"))).collect()
}

fn row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split(',').collect();
    let [replication_factor, min_insync_replicas, acks, writing, killed, wiped, minimal, runs, rounds] = fields[..]
    else {
        return None;
    };
    let acks = [Acks::None, Acks::Leader, Acks::All].into_iter().find(|it| it.to_string() == acks)?;
    Some(Row {
        settings: Settings {
            replication_factor: replication_factor.parse().ok()?,
            min_insync_replicas: min_insync_replicas.parse().ok()?,
            acks,
        },
        survives: Survives {
            writing: writing.parse().ok()?,
            data_killed: killed.parse().ok()?,
            data_wiped: wiped.parse().ok()?,
            data_wiped_minimal: minimal.parse().ok()?,
            runs: runs.parse().ok()?,
        },
        process_rounds: rounds.parse().ok()?,
    })
}

/// The rows as a Markdown table.
#[must_use]
pub fn to_markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| replicas | min ISR | acks | writing goes on without | data outlive kills | data outlive lost disks, all in \
         sync | data outlive lost disks, guaranteed | runs simulated / with processes |\n|---|---|---|---|---|---|---|---|\n",
    );
    for Row { settings, survives, process_rounds } in rows {
        let Settings { replication_factor, min_insync_replicas, acks } = settings;
        let killed = if survives.data_killed == *replication_factor {
            "any number".to_owned()
        } else {
            survives.data_killed.to_string()
        };
        writeln!(
            text,
            "| {replication_factor} | {min_insync_replicas} | {acks} | {} | {killed} | {} | {} | {} / {process_rounds} |",
            survives.writing, survives.data_wiped, survives.data_wiped_minimal, survives.runs
        )
        .expect("writing to a string");
    }
    text
}

/// A text with the table between its markers replaced.
pub fn put(text: &str, table: &str) -> Result<String, String> {
    let (before, rest) = text.split_once(BEGIN).ok_or("the first marker is missing")?;
    let (_, after) = rest.split_once(END).ok_or("the last marker is missing")?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}
