//! What a person sees while a run is under way: a bar on a terminal, plain lines otherwise, on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::recorder::Event;

/// The display of one run.
#[derive(Debug)]
pub struct Display {
    bar: Option<ProgressBar>,
}

impl Display {
    /// A bar over `duration` if standard error is a terminal.
    pub fn new(duration: Duration) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(duration.as_millis() as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("[{bar:30}] {elapsed_precise} {wide_msg}").expect("a valid template");
        bar.set_style(style.progress_chars("=> "));
        Self { bar: Some(bar) }
    }

    /// How far the run is.
    pub fn progress(&self, elapsed: Duration, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(message.to_owned());
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// An event, if it is one that people want to see.
    pub fn event(&self, event: &Event) {
        if matches!(event.event, "leader" | "isr") {
            return;
        }
        let seconds = event.at_us as f64 / 1e6;
        let broker = event.broker.map(|broker| format!(" broker {broker}")).unwrap_or_default();
        self.say(&format!("{seconds:8.3} s  {}{broker}  {}", event.event, event.detail));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
