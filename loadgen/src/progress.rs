//! What a person sees meanwhile: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress in planned seconds.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: usize,
    step: usize,
    planned_s: f64,
    done_s: f64,
    quiet: bool,
}

impl Progress {
    /// A run of so many steps and seconds. `quiet` when standard output is for a machine.
    pub fn new(steps: usize, planned_s: f64, quiet: bool) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new((planned_s * 10.0) as u64);
            let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed} of about {prefix}  {msg}");
            bar.set_style(style.expect("the template is a constant").progress_chars("━╸─"));
            bar.set_prefix(clock(planned_s));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress { bar, steps, step: 0, planned_s, done_s: 0.0, quiet }
    }

    /// A step begins.
    pub fn begin(&mut self, what: &str) {
        self.step += 1;
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Within a step, so many of its seconds have passed.
    pub fn within(&self, seconds: f64) {
        if let Some(bar) = &self.bar {
            bar.set_position(((self.done_s + seconds).min(self.planned_s) * 10.0) as u64);
        }
    }

    /// A step of so many planned seconds is over; `line` says what came out.
    pub fn end(&mut self, seconds: f64, line: &str) {
        self.done_s += seconds;
        self.within(0.0);
        self.say(&format!("[{:>width$}/{}] {line}", self.step, self.steps, width = self.steps.to_string().len()));
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.quiet => eprintln!("{line}"),
            None => println!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
