//! What all requests share: the checks, the limits, the queue and the model card.

use std::sync::Arc;

use crate::card::Card;
use crate::feed::Feed;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::request::ModelLimits;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) guard: Guard,
    pub(crate) limits: Limits,
    pub(crate) model_limits: ModelLimits,
    pub(crate) queue: Arc<Queue>,
    pub(crate) card: Card,
    /// The events of the run, if there is one that trains.
    pub(crate) feed: Option<Arc<Feed>>,
    /// When the server started, in seconds since 1970.
    pub(crate) since: u64,
}
