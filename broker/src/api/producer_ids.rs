//! InitProducerId: a producer id that nobody else ever gets. Ids come from the controller in blocks.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use minisr_logic::metadata::{Command, Reply};
use minisr_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};
use minisr_wire::{ErrorCode, RequestHead};
use tokio::sync::Mutex;

use super::{Context, Session, encode, error_code, promise_task, reply};
use crate::control_handle::ProposeError;
use crate::transport::connection::{Closed, Handled};

/// How long a producer waits for a new block. Its client asks again after an error.
const BLOCK_TIME_MAX: Duration = Duration::from_secs(10);

/// The rest of this broker's block of ids.
#[derive(Debug, Default)]
pub struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
    /// Held while a block is asked for, so that many producers at once ask for one.
    asking: Mutex<()>,
}

impl ProducerIds {
    fn take(&self) -> Option<i64> {
        let next = self.next.get();
        (next < self.end.get()).then(|| {
            self.next.set(next + 1);
            next
        })
    }
}

pub(super) fn handle(
    session: &Session,
    head: &RequestHead,
    request: &InitProducerIdRequest,
) -> Result<Handled, Closed> {
    if request.transactional_id.is_some() {
        // There is no transaction coordinator yet, and no retry would find one.
        return reply(head, &refused(ErrorCode::UNSUPPORTED_VERSION));
    }
    let context = &session.context;
    if let Some(id) = context.producer_ids.take() {
        return reply(head, &granted(id));
    }
    let context = Rc::clone(context);
    let head = head.clone();
    Ok(promise_task(async move {
        let response = match tokio::time::timeout(BLOCK_TIME_MAX, next_id(&context)).await {
            Ok(Ok(id)) => granted(id),
            Ok(Err(code)) => refused(code),
            Err(_) => refused(ErrorCode::REQUEST_TIMED_OUT),
        };
        encode(&head, &response)
    }))
}

async fn next_id(context: &Context) -> Result<i64, ErrorCode> {
    let ids = &context.producer_ids;
    let _asking = ids.asking.lock().await;
    if let Some(id) = ids.take() {
        return Ok(id);
    }
    let broker = context.settings.node_id;
    // Before the registration nobody can be given ids; the client finds another broker or tries again.
    let broker_epoch = context.broker_epoch.get().ok_or(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)?;
    match context.propose(Command::AllocateProducerIds { broker, broker_epoch }).await {
        Ok(Reply::ProducerIds { first, len }) => {
            ids.next.set(first);
            ids.end.set(first + len);
            Ok(ids.take().expect("a block is not empty"))
        }
        Ok(other) => unreachable!("AllocateProducerIds answered with {other:?}"),
        Err(ProposeError::NoController | ProposeError::Overloaded) => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        Err(error) => Err(error_code::propose(&error)),
    }
}

fn granted(id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0)
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(code.0).with_producer_id((-1).into()).with_producer_epoch(-1)
}
