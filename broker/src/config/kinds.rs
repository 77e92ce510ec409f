//! What values a setting may have: each kind parses a value and says in words what it allows, so that the sentence
//! printed for a bad value can never disagree with the check.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// The values one setting accepts.
pub trait Kind<T> {
    /// The value, or `None` when it is not allowed.
    fn parse(&self, value: &str) -> Option<T>;
    /// What is allowed, to follow "must be".
    fn allowed(&self) -> String;
}

/// A whole number from `min` to `max`.
pub struct Whole<T> {
    min: T,
    max: T,
}

/// A whole number from `min` to `max`, both included.
pub const fn whole<T>(min: T, max: T) -> Whole<T> {
    Whole { min, max }
}

impl<T: FromStr + PartialOrd + Display + Copy> Kind<T> for Whole<T> {
    fn parse(&self, value: &str) -> Option<T> {
        let number = value.parse::<T>().ok()?;
        (self.min <= number && number <= self.max).then_some(number)
    }

    fn allowed(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }
}

/// `true` or `false`.
pub struct Boolean;

impl Kind<bool> for Boolean {
    fn parse(&self, value: &str) -> Option<bool> {
        value.to_ascii_lowercase().parse().ok()
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

/// Text that is not empty.
pub struct Text;

impl Kind<String> for Text {
    fn parse(&self, value: &str) -> Option<String> {
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn allowed(&self) -> String {
        "text that is not empty".to_owned()
    }
}

/// Text that may be absent: an empty value means none.
pub struct OptionalText;

impl Kind<Option<String>> for OptionalText {
    fn parse(&self, value: &str) -> Option<Option<String>> {
        Some((!value.is_empty()).then(|| value.to_owned()))
    }

    fn allowed(&self) -> String {
        "text, or empty for none".to_owned()
    }
}

/// One path.
pub struct OnePath;

impl Kind<PathBuf> for OnePath {
    fn parse(&self, value: &str) -> Option<PathBuf> {
        (!value.is_empty() && !value.contains(',')).then(|| PathBuf::from(value))
    }

    fn allowed(&self) -> String {
        "exactly one path".to_owned()
    }
}

/// One of a fixed set of words.
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy> Kind<T> for OneOf<T> {
    fn parse(&self, value: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, meaning)| *meaning)
    }

    fn allowed(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
        if let [only] = words.as_slice() { (*only).to_owned() } else { format!("one of {}", words.join(", ")) }
    }
}

/// A value parsed by a function, with a description of what it takes.
pub struct Parsed<T>(pub fn(&str) -> Option<T>, pub &'static str);

impl<T> Kind<T> for Parsed<T> {
    fn parse(&self, value: &str) -> Option<T> {
        self.0(value)
    }

    fn allowed(&self) -> String {
        self.1.to_owned()
    }
}
