//! `sample --serve`: serves a model at an address until a signal ends it.

use anyhow::{Context as _, Result};
use tinygpt_model::Model;
use tinygpt_serve::{Limits, ServeError, ServedModel, Server};
use tinygpt_train::StopFlag;

use super::load::LoadedModel;
use super::model_card::model_card;
use crate::exit::Ended;
use crate::options::{Layered, SampleOptions, SampleSettings, ServeSettings};
use crate::signals::Signals;
use crate::terminal::say;
use crate::usage::UsageError;

/// The environment variable with the key, if no flag gives it.
pub(super) const KEY_VARIABLE: &str = "TINYGPT_API_KEY";

/// Listens at the address of the settings.
///
/// # Errors
/// A public address without a key, or an address that is in use.
pub(super) fn listen(settings: &ServeSettings) -> Result<Server> {
    let from_variable = || std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    let key = settings.api_key.clone().or_else(from_variable);
    Server::listen(settings.address, key, Limits::default()).map_err(|error| match &error {
        ServeError::KeyNeeded { .. } => UsageError::new(error.to_string())
            .hint(format!("set {KEY_VARIABLE} (or --api-key) to a long random text"))
            .into(),
        ServeError::BadKey => UsageError::new(error.to_string()).into(),
        ServeError::Listen { .. } => {
            anyhow::Error::from(error).context("choose another address with --serve ADDR")
        }
        _ => error.into(),
    })
}

/// Serves a model until a signal.
///
/// # Errors
/// A model that fails, or a system that refuses threads.
pub(super) fn serve(
    server: Server,
    layered: &Layered<SampleOptions>,
    (settings, start): (&SampleSettings, Option<String>),
    loaded: LoadedModel<Box<dyn Model>>,
) -> Result<Ended> {
    let card = model_card(layered, (settings, start), &loaded);
    let LoadedModel { tokenizer, model, special, .. } = loaded;
    let stop = StopFlag::new();
    let signals = Signals::install(&stop).context("cannot listen for signals")?;
    signals.ask_first();
    let address = server.address();
    say(&format!("serving {} at http://{address}/, with OpenAI's API below /v1", card.name));
    say("press Ctrl-C to stop");
    let served = ServedModel { model, tokenizer, bos: special.bos, eos: special.eos, card };
    server.run(served, &|| stop.signal().is_some())?;
    Ok(stop.signal().map_or(Ended::Done, Ended::Stopped))
}
