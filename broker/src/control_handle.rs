//! The seam between the data thread and the control thread.
//!
//! The data plane (sockets, requests, the shard) sees the cluster's metadata and the controller through a
//! [`ControlHandle`] only; the control thread (Raft, registration, heartbeats) holds the other end, a
//! [`ControlPort`]. Both ends are made together by [`channel`], so either can be tested without the other.
//!
//! What the control thread promises:
//! * images are published in the order of the metadata log, each only after it was applied here;
//! * a proposal is answered once its command was applied **here** (or when it surely or possibly was not), never
//!   before, so that whoever waited for the answer finds the change in the image;
//! * every proposal is answered; dropping the sender counts as [`ProposeError::Stopped`].

use std::sync::Arc;

use minisr_logic::BrokerId;
use minisr_logic::metadata::{Command, CommandError, Image, Reply};
use tokio::sync::{mpsc, oneshot, watch};

/// Proposals that may wait for the control thread; more are refused, not queued without bound.
const PROPOSALS_IN_FLIGHT_MAX: usize = 1024;

/// Why a proposed command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The command was applied, and the metadata state machine refused it. Nothing was changed.
    #[error("{0}")]
    Refused(CommandError),
    /// There is no controller now. The command was not proposed.
    #[error("no controller is known")]
    NoController,
    /// It was proposed and the answer did not come: it may or may not have been applied.
    #[error("the controller did not answer in time")]
    TimedOut,
    /// Too many proposals wait already. The command was not proposed.
    #[error("too many proposals are waiting")]
    Overloaded,
    /// This broker's control thread is stopping. The command may or may not have been applied.
    #[error("this broker is stopping")]
    Stopped,
}

/// The data plane's end: cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    proposals: mpsc::Sender<Proposal>,
    image: watch::Receiver<Arc<Image>>,
    controller: watch::Receiver<Option<BrokerId>>,
    is_ready: watch::Receiver<bool>,
    quorum: watch::Receiver<Quorum>,
}

/// The control thread's end.
#[derive(Debug)]
pub struct ControlPort {
    /// Commands to propose, each with the place for its answer.
    pub proposals: mpsc::Receiver<Proposal>,
    /// Where the newest applied image goes.
    pub image: watch::Sender<Arc<Image>>,
    /// Who is the active controller, as far as this broker knows.
    pub controller: watch::Sender<Option<BrokerId>>,
    /// Whether this broker is registered and unfenced in the incarnation that runs.
    pub is_ready: watch::Sender<bool>,
    /// The controller quorum, as far as this broker knows.
    pub quorum: watch::Sender<Quorum>,
}

/// The controller quorum as one broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// The active controller.
    pub leader: Option<BrokerId>,
    /// Its term.
    pub term: u64,
    /// Those with a vote, in every configuration in force.
    pub voters: Vec<QuorumMember>,
    /// Those that follow without one.
    pub observers: Vec<QuorumMember>,
}

/// A Raft directory that is part of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumMember {
    /// Its broker.
    pub broker: BrokerId,
    /// The directory's id.
    pub node: u64,
    /// Up to where it has the log; only the leader knows.
    pub log_end: Option<u64>,
}

impl Quorum {
    /// Voters and observers.
    pub fn members(&self) -> impl Iterator<Item = &QuorumMember> {
        self.voters.iter().chain(&self.observers)
    }
}

/// A command on its way to the controller.
#[derive(Debug)]
pub struct Proposal {
    /// What to apply.
    pub command: Command,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Reply, ProposeError>>,
}

/// Makes the two ends, starting from `image`, with no known controller and not ready.
#[must_use]
pub fn channel(image: Arc<Image>) -> (ControlHandle, ControlPort) {
    let (proposals_in, proposals) = mpsc::channel(PROPOSALS_IN_FLIGHT_MAX);
    let (image_in, image) = watch::channel(image);
    let (controller_in, controller) = watch::channel(None);
    let (is_ready_in, is_ready) = watch::channel(false);
    let (quorum_in, quorum) = watch::channel(Quorum::default());
    (
        ControlHandle { proposals: proposals_in, image, controller, is_ready, quorum },
        ControlPort { proposals, image: image_in, controller: controller_in, is_ready: is_ready_in, quorum: quorum_in },
    )
}

impl ControlHandle {
    /// Proposes `command` to the controller, wherever it runs, and returns what applying it returned, once it was
    /// applied here.
    ///
    /// # Errors
    /// See [`ProposeError`], which says for each case whether the command may have been applied.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.proposals.try_send(Proposal { command, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        answer.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// The newest image applied here.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// A receiver that is notified of every new image (several may be folded into one notice).
    #[must_use]
    pub fn watch_image(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// The active controller, if this broker knows one.
    #[must_use]
    pub fn controller_broker(&self) -> Option<BrokerId> {
        *self.controller.borrow()
    }

    /// The controller quorum, as far as this broker knows.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        self.quorum.borrow().clone()
    }

    /// A receiver that is notified when [`Self::quorum`] changes.
    #[must_use]
    pub fn watch_quorum(&self) -> watch::Receiver<Quorum> {
        self.quorum.clone()
    }

    /// A receiver that is notified when [`Self::is_self_ready`] changes.
    #[must_use]
    pub fn watch_ready(&self) -> watch::Receiver<bool> {
        self.is_ready.clone()
    }

    /// Whether this broker is registered and unfenced in the incarnation that runs.
    #[must_use]
    pub fn is_self_ready(&self) -> bool {
        *self.is_ready.borrow()
    }
}

impl Proposal {
    /// Answers whoever proposed; nobody listening any more is fine.
    pub fn answer(self, result: Result<Reply, ProposeError>) {
        let _ = self.reply.send(result);
    }
}
