//! The only source of chance in a run.
//!
//! Nothing is drawn from one long stream, in which a draw more or less would shift all that follow. Every draw is a
//! function of the seed, of what it is about, of whom it concerns and of *when*. So a run with a few events taken out
//! goes on like the run with them wherever they made no difference, which is what lets a failure be shrunk.

use crate::trace::fnv;

/// The dice of a run.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    calm: bool,
    now_ms: u64,
    /// What was drawn in this millisecond already: what for, how often.
    drawn: Vec<(u64, u32)>,
}

impl Dice {
    /// The dice of a seed. Calm ones always give the shortest pause and the likelier of two outcomes.
    #[must_use]
    pub const fn new(seed: u64, calm: bool) -> Self {
        Self { seed, calm, now_ms: 0, drawn: Vec::new() }
    }

    /// The roll for something that concerns somebody now. The same again in the same millisecond is another roll.
    pub fn roll(&mut self, now_ms: u64, what: &str, who: u64) -> Roll {
        if now_ms != self.now_ms {
            self.now_ms = now_ms;
            self.drawn.clear();
        }
        let subject = fnv(fnv(SUBJECTS, what.as_bytes()), &who.to_be_bytes());
        let nth = match self.drawn.iter_mut().find(|it| it.0 == subject) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.drawn.push((subject, 0));
                0
            }
        };
        let state = mixed(mixed(self.seed ^ subject).wrapping_add(now_ms) ^ u64::from(nth).rotate_left(40));
        Roll { state, nth, calm: self.calm }
    }
}

/// A short sequence of numbers.
#[derive(Clone, Debug)]
pub struct Roll {
    state: u64,
    calm: bool,
    /// How often the same was rolled for before in the same millisecond.
    pub nth: u32,
}

impl Roll {
    /// The sequence of a number.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        Self { state: mixed(number), nth: 0, calm: false }
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    /// A number in `0..n`.
    ///
    /// # Panics
    /// When `n` is 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing to choose from");
        // The bias of a remainder is below 2⁻⁴⁰ for the small ranges used here.
        self.bits() % n
    }

    /// A number in `low..=high`; calm dice give the lowest.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        if self.calm { low } else { low + self.below(high - low + 1) }
    }

    /// True in `permille` of 1,000 cases; calm dice give the likelier answer.
    pub const fn chance(&mut self, permille: u64) -> bool {
        if self.calm { permille >= 500 } else { self.below(1_000) < permille }
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.below(items.len() as u64);
        &items[usize::try_from(index).expect("an index into memory")]
    }

    /// 128 random bits.
    pub const fn bits128(&mut self) -> u128 {
        (self.bits() as u128) << 64 | self.bits() as u128
    }
}

const SUBJECTS: u64 = 0xcbf2_9ce4_8422_2325;

/// SplitMix64's finalizer.
const fn mixed(mut it: u64) -> u64 {
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(dice: &mut Dice, now_ms: u64) -> Vec<u64> {
        let mut roll = dice.roll(now_ms, "x", 1);
        (0..8).map(|_| roll.below(1_000)).collect()
    }

    #[test]
    fn dice_repeat_for_a_seed_and_differ_between_seeds_times_and_repeats() {
        let (mut one, mut same, mut other) = (Dice::new(1, false), Dice::new(1, false), Dice::new(2, false));
        let first = draw(&mut one, 5);
        assert_eq!(first, draw(&mut same, 5));
        assert_ne!(first, draw(&mut other, 5));
        assert_ne!(first, draw(&mut one, 5), "the second roll of the same millisecond");
        assert_ne!(first, draw(&mut one, 6));
    }

    #[test]
    fn dice_do_not_notice_what_else_is_rolled() {
        let (mut one, mut busy) = (Dice::new(1, false), Dice::new(1, false));
        busy.roll(5, "y", 1);
        busy.roll(4, "x", 2);
        assert_eq!(draw(&mut one, 5), draw(&mut busy, 5));
    }

    #[test]
    fn calm_dice_wait_no_longer_than_they_must() {
        let mut roll = Dice::new(1, true).roll(1, "x", 1);
        assert_eq!(roll.between(3, 90), 3);
        assert!(roll.chance(700));
        assert!(!roll.chance(400));
    }
}
