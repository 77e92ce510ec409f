//! Requests whose answer comes in a later step of the shard.
//!
//! Both futures live on the data thread. The shard's driver completes them while it drains a step's outputs; the
//! connection's task is then woken and encodes the reply.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use minisr_replica::{AppendError, Appended, FetchReply, Ticket};

use super::ShardHandle;

/// What one partition's append came to.
pub type AppendResult = Result<Appended, AppendError>;

/// All appends of one produce request. Resolves when each of them is decided, to their results in request order.
pub struct Appends(Rc<AppendsShared>);

pub(super) struct AppendsShared {
    results: RefCell<Vec<Option<AppendResult>>>,
    missing: Cell<usize>,
    waker: Cell<Option<Waker>>,
}

impl Appends {
    pub(super) fn new(count: usize) -> (Self, Rc<AppendsShared>) {
        let shared = Rc::new(AppendsShared {
            results: RefCell::new(vec![None; count]),
            missing: Cell::new(count),
            waker: Cell::new(None),
        });
        (Self(Rc::clone(&shared)), shared)
    }

    /// The results, if every append is decided already.
    #[must_use]
    pub fn take_if_done(&self) -> Option<Vec<AppendResult>> {
        (self.0.missing.get() == 0).then(|| {
            let results = std::mem::take(&mut *self.0.results.borrow_mut());
            results.into_iter().map(|result| result.expect("none is missing")).collect()
        })
    }
}

impl Future for Appends {
    type Output = Vec<AppendResult>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.take_if_done() {
            Some(results) => Poll::Ready(results),
            None => {
                self.0.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// A fetch under way. Dropping it tells the shard to forget it.
pub struct Fetching {
    shared: Rc<FetchShared>,
    ticket: Ticket,
    shard: ShardHandle,
}

#[derive(Default)]
pub(super) struct FetchShared {
    reply: Cell<Option<FetchReply>>,
    is_done: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Fetching {
    pub(super) fn new(shared: Rc<FetchShared>, ticket: Ticket, shard: ShardHandle) -> Self {
        Self { shared, ticket, shard }
    }

    /// The reply, if it is there already.
    #[must_use]
    pub fn take_if_done(&self) -> Option<FetchReply> {
        self.shared.reply.take()
    }
}

impl Future for Fetching {
    type Output = FetchReply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.shared.reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => {
                self.shared.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if !self.shared.is_done.get() {
            self.shard.cancel_fetch(self.ticket);
        }
    }
}

enum Waiter {
    Append { request: Rc<AppendsShared>, index: usize },
    Fetch(Rc<FetchShared>),
}

/// Who waits for which ticket.
#[derive(Default)]
pub(super) struct Waiters {
    waiters: BTreeMap<Ticket, Waiter>,
    last_ticket: u64,
}

impl Waiters {
    pub(super) fn append(&mut self, request: &Rc<AppendsShared>, index: usize) -> Ticket {
        self.insert(Waiter::Append { request: Rc::clone(request), index })
    }

    pub(super) fn fetch(&mut self, request: &Rc<FetchShared>) -> Ticket {
        self.insert(Waiter::Fetch(Rc::clone(request)))
    }

    fn insert(&mut self, waiter: Waiter) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiters.insert(ticket, waiter);
        ticket
    }

    pub(super) fn appended(&mut self, ticket: Ticket, result: AppendResult) {
        let Some(Waiter::Append { request, index }) = self.waiters.remove(&ticket) else {
            panic!("{ticket:?} answered as an append, which nobody asked for");
        };
        let before = request.results.borrow_mut()[index].replace(result);
        assert!(before.is_none(), "{ticket:?} answered twice");
        request.missing.set(request.missing.get() - 1);
        if request.missing.get() == 0 {
            wake(&request.waker);
        }
    }

    pub(super) fn fetched(&mut self, ticket: Ticket, reply: FetchReply) {
        let Some(Waiter::Fetch(request)) = self.waiters.remove(&ticket) else {
            panic!("{ticket:?} answered as a fetch, which nobody asked for");
        };
        request.reply.set(Some(reply));
        request.is_done.set(true);
        wake(&request.waker);
    }

    pub(super) fn cancelled(&mut self, ticket: Ticket) {
        self.waiters.remove(&ticket);
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
