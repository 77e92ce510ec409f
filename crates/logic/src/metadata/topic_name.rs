//! Which topic names are allowed.

use std::error::Error;
use std::fmt;

/// Longest topic name: the directory name `<topic>-<partition>` must fit a file system's 255 bytes.
const TOPIC_NAME_LEN_MAX: usize = 249;

/// What is wrong with a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum TopicNameError {
    /// No characters.
    Empty,
    /// `.` or `..`, which are directories already.
    Dots,
    /// More than 249 characters.
    TooLong,
    /// A character other than ASCII letters, digits, `.`, `_` and `-`.
    Character(char),
}

/// Checks a topic name by Kafka's rules; it becomes part of a directory name.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    match name {
        "" => return Err(TopicNameError::Empty),
        "." | ".." => return Err(TopicNameError::Dots),
        _ => {}
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        return Err(TopicNameError::Character(character));
    }
    if name.len() > TOPIC_NAME_LEN_MAX { Err(TopicNameError::TooLong) } else { Ok(()) }
}

/// Whether two names become the same once '.' and '_' are not told apart.
pub(super) fn collide(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the topic name is empty"),
            Self::Dots => write!(f, "the topic name cannot be '.' or '..'"),
            Self::TooLong => write!(f, "the topic name is longer than {TOPIC_NAME_LEN_MAX} characters"),
            Self::Character(c) => {
                write!(f, "the topic name contains {c:?}; only ASCII letters, digits, '.', '_' and '-' are allowed")
            }
        }
    }
}

impl Error for TopicNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_escape_or_break_a_directory_are_refused() {
        for (name, expected) in [
            ("", TopicNameError::Empty),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            ("a/b", TopicNameError::Character('/')),
            ("a b", TopicNameError::Character(' ')),
            ("ü", TopicNameError::Character('ü')),
            (&"x".repeat(250), TopicNameError::TooLong),
        ] {
            assert_eq!(validate_topic_name(name), Err(expected), "{name:?}");
        }
        for name in ["a", "A-b_c.9", "...", &"x".repeat(249)] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collide("a.b", "a_b"));
        assert!(!collide("a.b", "a-b"));
        assert!(!collide("a.b", "a.b_"));
    }
}
