//! An assertion of the code under test that fails in a run is a violation like any other.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::invariants::Violation;

thread_local! {
    /// `Some` while a run is on, with what the panic said.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs something that may panic; the panic is not printed but returned.
pub fn caught(run: impl FnOnce()) -> Result<(), Violation> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !note(info) {
                before(info);
            }
        }));
    });
    SAID.with_borrow_mut(|said| *said = Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(run));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| Violation { number: 0, name: Violation::ASSERTION, what: said })
}

/// Notes where and why, if a run is on.
fn note(info: &PanicHookInfo<'_>) -> bool {
    SAID.with_borrow_mut(|said| {
        let Some(said) = said else { return false };
        let place = info.location().map_or(String::new(), |it| format!("{}:{}", it.file(), it.line()));
        *said = format!("{place} {}", info.payload_as_str().unwrap_or("without a message"));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_in_a_run_is_a_violation_that_says_where() {
        let violation = caught(|| panic!("out of order")).expect_err("it panics");
        assert_eq!(violation.name, Violation::ASSERTION);
        assert!(violation.what.contains("panics.rs:") && violation.what.ends_with("out of order"), "{violation}");
        assert_eq!(caught(|| ()), Ok(()));
    }
}
