//! `sample --serve`: serves a model at an address until a signal ends it.

use anyhow::{Context as _, Result};
use tinygpt_model::Model;
use tinygpt_serve::{Limits, ServedModel, Server};
use tinygpt_train::StopFlag;

use super::super::listen::listen;
use super::load::LoadedModel;
use super::model_card::model_card;
use crate::exit::Ended;
use crate::options::{Layered, SampleOptions, SampleSettings, ServeSettings};
use crate::signals::Signals;
use crate::terminal::say;

/// Listens at the address of the settings.
///
/// # Errors
/// A public address without a key, or an address that is in use.
pub(super) fn listen_for(settings: &ServeSettings) -> Result<Server> {
    let key = (settings.api_key.clone(), Some("--api-key"));
    listen(settings.address, key, Limits::default())
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
