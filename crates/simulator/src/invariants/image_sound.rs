//! 11, 12, 14, 30 of the committed metadata, and 2 between two versions of it.

use minisr_logic::metadata::check_step;

use super::Invariant;
use crate::state::{Fact, Step};

/// Looks at each committed command.
#[derive(Debug, Default)]
pub struct ImageSound;

impl Invariant for ImageSound {
    fn number(&self) -> u8 {
        11
    }

    fn name(&self) -> &'static str {
        "ImageSound"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Committed { before, command } = fact else { continue };
            let sound = step.state.image.check().and_then(|()| check_step(before, &step.state.image));
            sound.map_err(|violation| format!("{violation} after {command:?}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::{Command, Image};

    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn image_sound_rings_when_the_log_goes_back() {
        must_ring(ImageSound, |cluster| {
            let before = std::mem::replace(&mut cluster.state.image, Image::new());
            let command = Command::DeleteTopic { topic_id: super::super::doctor::TOPIC };
            cluster.facts.push(Fact::Committed { before, command });
        });
    }
}
