//! Runs a check and says what it found.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::bounds::Bounds;
use crate::properties::Replication;

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The bounds.
    pub bounds: Bounds,
    /// States that were reached.
    pub states: usize,
    /// Ways into them: every possible next event of every state.
    pub transitions: usize,
    /// Length of the longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether everything within the bounds was tried: not when it stopped at a violation or at a limit.
    pub exhaustive: bool,
    /// What held in every state.
    pub held: Vec<&'static str>,
    /// What was violated, and a way there.
    pub violated: Vec<(&'static str, Vec<String>)>,
    /// What happened somewhere.
    pub happened: Vec<&'static str>,
    /// What was to happen somewhere and did not.
    pub never_happened: Vec<&'static str>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads; with one, the ways are the shortest.
    pub threads: usize,
    /// Stop after about this many transitions, not having tried everything.
    pub transitions_max: Option<usize>,
}

/// Tries everything within the bounds.
pub fn check(bounds: Bounds, limits: Limits, progress: impl FnMut(usize, usize)) -> Report {
    let began = Instant::now();
    let model = Replication { bounds };
    let builder = model.checker().threads(limits.threads).finish_when(HasDiscoveries::AnyFailures);
    let builder = match limits.transitions_max {
        Some(transitions) => builder.target_state_count(transitions),
        None => builder,
    };
    let checker = builder.spawn_bfs().report(&mut Progress(progress));
    let mut report = Report {
        bounds,
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        exhaustive: limits.transitions_max.is_none_or(|most| checker.state_count() < most),
        held: Vec::new(),
        violated: Vec::new(),
        happened: Vec::new(),
        never_happened: Vec::new(),
    };
    let mut discoveries = checker.discoveries();
    for property in model.properties() {
        let found = discoveries.remove(property.name);
        let way = |path: stateright::Path<_, _>| {
            let actions = path.into_actions();
            actions.iter().map(|action| model.format_action(action)).collect::<Vec<String>>()
        };
        match (property.expectation, found) {
            (Expectation::Sometimes, Some(_)) => report.happened.push(property.name),
            (Expectation::Sometimes, None) => report.never_happened.push(property.name),
            (_, Some(path)) => {
                let last = path.last_state().history.fault.as_ref().map(|fault| fault.what.clone());
                let mut steps = way(path);
                steps.extend(last);
                report.violated.push((property.name, steps));
            }
            (_, None) => report.held.push(property.name),
        }
    }
    report.exhaustive &= report.violated.is_empty();
    report
}

impl Report {
    /// Whether everything held everywhere, and everything that should happen did.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.violated.is_empty() && self.never_happened.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.bounds)?;
        let tried = if self.exhaustive { "everything was tried" } else { "not everything was tried" };
        writeln!(
            f,
            "  {} states, {} transitions, depth {}, {:.1} s: {tried}",
            grouped(self.states),
            grouped(self.transitions),
            self.depth,
            self.took.as_secs_f64()
        )?;
        writeln!(f, "  held in every state: {}", self.held.join(", "))?;
        if !self.happened.is_empty() {
            writeln!(f, "  happened: {}", self.happened.join("; "))?;
        }
        for what in &self.never_happened {
            writeln!(f, "  never happened: {what}")?;
        }
        for (invariant, steps) in &self.violated {
            writeln!(f, "  violated: {invariant}")?;
            for (at, step) in steps.iter().enumerate() {
                writeln!(f, "    {:>2} {step}", at + 1)?;
            }
        }
        Ok(())
    }
}

/// A number with a comma after every three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        let _ = grouped.write_char(digit);
    }
    grouped
}

struct Progress<F>(F);

impl<F: FnMut(usize, usize)> Reporter<Replication> for Progress<F> {
    fn report_checking(&mut self, data: ReportData) {
        (self.0)(data.unique_states, data.max_depth);
    }

    fn report_discoveries(&mut self, _: &Replication, _: BTreeMap<&'static str, ReportDiscovery<Replication>>) {}

    fn delay(&self) -> Duration {
        Duration::from_millis(100)
    }
}
