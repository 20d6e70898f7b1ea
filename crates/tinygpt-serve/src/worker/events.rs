//! What the engine reports, sent to the client of each choice.

use std::ops::ControlFlow;

use tinygpt_model::{Event, SequenceId, StopReason};
use tokio::sync::mpsc::UnboundedSender;

use super::{ActiveChoices, api_error};
use crate::error::ApiError;
use crate::queue::{Finish, Update};

/// Sends what the engine reports about a choice. Stops it if the client has disconnected or a stop text
/// was found.
pub(super) fn on_event(
    active: &mut ActiveChoices<'_>,
    id: SequenceId,
    event: Event,
) -> ControlFlow<()> {
    let Some(text) = active.get_mut(&id) else { return ControlFlow::Break(()) };
    let choice = text.choice;
    match event {
        Event::Token { id, .. } if text.end_of_document == Some(id) => {
            return ControlFlow::Break(());
        }
        Event::Token { id, logprobs } => {
            text.n_tokens += 1;
            match text.builder.push(id, logprobs) {
                Ok((delta, stopped)) => {
                    text.stopped = stopped;
                    send(&text.updates, Update::Delta { choice, delta });
                }
                Err(error) => {
                    send(&text.updates, Update::Failed(ApiError::internal(error.to_string())));
                    return ControlFlow::Break(());
                }
            }
            if text.stopped || text.updates.is_closed() {
                return ControlFlow::Break(());
            }
        }
        Event::End(reason) => {
            if let Some(mut text) = active.remove(&id) {
                let delta = if text.stopped { Default::default() } else { text.builder.finish() };
                let is_long = reason == StopReason::Length && !text.stopped;
                let finish = if is_long { Finish::Length } else { Finish::Stop };
                let n_tokens = text.n_tokens;
                send(&text.updates, Update::End { choice, delta, finish, n_tokens });
            }
        }
        Event::Failed(error) => {
            if let Some(text) = active.remove(&id) {
                send(&text.updates, Update::Failed(api_error(&error)));
            }
        }
    }
    ControlFlow::Continue(())
}

/// Fails only if the client has disconnected, which `on_event` checks.
pub(super) fn send(updates: &UnboundedSender<Update>, update: Update) {
    let _ = updates.send(update);
}
