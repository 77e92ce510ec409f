//! 30: broker epochs are unique and rise; a producer id is handed out once.

use minisr_logic::BrokerEpoch;

use super::Invariant;
use crate::state::{Fact, Step};

/// The highest broker epoch, and the first producer id that nobody has.
#[derive(Debug, Default)]
pub struct IdsUnique {
    last_epoch: Option<BrokerEpoch>,
    next_producer_id: i64,
}

impl Invariant for IdsUnique {
    fn number(&self) -> u8 {
        30
    }

    fn name(&self) -> &'static str {
        "IdsUnique"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::Committed { before, .. } => {
                    for broker in step.state.image.brokers() {
                        if before.broker(broker.id).is_some_and(|it| it.epoch == broker.epoch) {
                            continue;
                        }
                        if self.last_epoch >= Some(broker.epoch) {
                            return Err(format!("broker {} got epoch {} again", broker.id, broker.epoch));
                        }
                        self.last_epoch = Some(broker.epoch);
                    }
                }
                Fact::ProducerIds { first, len } => {
                    if *first < self.next_producer_id {
                        return Err(format!("producer id {first} was handed out twice"));
                    }
                    self.next_producer_id = first + len;
                }
                _ => {}
            }
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
    fn ids_unique_rings_for_a_producer_id_handed_out_twice() {
        must_ring(IdsUnique::default(), |cluster| {
            cluster.facts.push(Fact::ProducerIds { first: 0, len: 1_000 });
            cluster.facts.push(Fact::ProducerIds { first: 999, len: 1_000 });
        });
    }

    #[test]
    fn ids_unique_rings_for_a_broker_epoch_given_twice() {
        must_ring(IdsUnique::default(), |cluster| {
            let command = Command::DeleteTopic { topic_id: super::super::doctor::TOPIC };
            // Seen from an empty image, every registration is new; twice over, each is a repeat.
            for _ in 0..2 {
                cluster.facts.push(Fact::Committed { before: Image::new(), command: command.clone(), accepted: true });
            }
        });
    }
}
