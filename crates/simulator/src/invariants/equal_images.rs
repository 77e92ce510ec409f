//! 29: whoever applies the log up to the same index holds the same image.

use super::Invariant;
use crate::state::{Fact, Step};

/// Compares each broker's image with the committed one of that index.
#[derive(Debug, Default)]
pub struct EqualImages;

impl Invariant for EqualImages {
    fn number(&self) -> u8 {
        29
    }

    fn name(&self) -> &'static str {
        "EqualImages"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            let Fact::Applied { broker, image, committed } = fact else { continue };
            if image != committed {
                return Err(format!("broker {broker} holds another image at version {}", image.version()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use minisr_logic::BrokerId;
    use minisr_logic::metadata::Image;

    use super::super::doctor::must_ring;
    use super::*;

    #[test]
    fn equal_images_rings_for_another_image() {
        must_ring(EqualImages, |cluster| {
            let committed = Arc::new(cluster.state.image.clone());
            let mut image = Image::new();
            image.skip(committed.version());
            cluster.facts.push(Fact::Applied { broker: BrokerId(2), image: Arc::new(image), committed });
        });
    }
}
