//! The server: its address, its two threads, and its shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use rayon::ThreadPoolBuilder;
use tinygpt_data::Tokenizer;
use tinygpt_model::{Model, ModelConfig, ModelError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::card::Card;
use crate::connections;
use crate::error::ServeError;
use crate::feed::Feed;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::request::ModelLimits;
use crate::response::unix_time;
use crate::router::router;
use crate::shared::Shared;
use crate::worker::{self, ModelSource};

/// How many connections the system queues until they are accepted. In a larger burst, some clients
/// would connect only when they retry after a second.
const BACKLOG: u32 = 1024;

/// A model with its tokenizer and its description.
#[derive(Debug)]
pub struct ServedModel {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The token that starts a document.
    pub bos: u32,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// The description on the page; its name is the model's name in the API.
    pub card: Card,
}

/// A run that trains, with a page that shows it and generates from its newest checkpoint.
#[derive(Debug)]
pub struct WatchedRun {
    /// Its events so far, and those to come.
    pub feed: Arc<Feed>,
    /// The shape of its model.
    pub config: ModelConfig,
    /// Tokens of its tokenizer.
    pub vocab_size: usize,
    /// The token that starts a document.
    pub bos: u32,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// The description on the page.
    pub card: Card,
    /// Reads the newest checkpoint when a text is requested.
    pub source: Box<dyn ModelSource>,
}

/// A server that listens but does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    key: Option<String>,
    limits: Limits,
}

impl Server {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ServeError::KeyNeeded`] if other machines can reach it and there is no key,
    /// [`ServeError::BadKey`] for one that cannot be sent, [`ServeError::Listen`] if the address
    /// cannot be used, [`ServeError::Start`] if the system refuses the event queue.
    pub fn listen(
        address: SocketAddr,
        key: Option<String>,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        match &key {
            Some(key) if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                return Err(ServeError::BadKey);
            }
            None if !address.ip().is_loopback() => return Err(ServeError::KeyNeeded { address }),
            _ => {}
        }
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(ServeError::Start)?;
        let listener = {
            let _inside = runtime.enter();
            bind(address)
        };
        let refused = |source| ServeError::Listen { address, source };
        let listener = listener.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { runtime, listener, address, key, limits })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `should_stop`, which is called many times a second, returns true. Texts in progress
    /// may then continue for [`Limits::grace`]; no new ones are started.
    ///
    /// # Errors
    /// [`ServeError::Model`] if the model fails, [`ServeError::Start`] if the
    /// system refuses a thread.
    pub fn run(
        self,
        served: ServedModel,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<(), ServeError> {
        let ServedModel { model, tokenizer, bos, eos, card } = served;
        let model_limits = ModelLimits {
            model: card.name.clone(),
            vocab_size: tokenizer.vocab_size(),
            eos,
            choices: worker::slots(model.config()),
        };
        let work = move |queue: &Queue| worker::run(&*model, &tokenizer, bos, queue);
        self.serve((card, None), model_limits, work, should_stop)
    }

    /// Serves a run that trains, in the same way.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn watch(self, run: WatchedRun, should_stop: &dyn Fn() -> bool) -> Result<(), ServeError> {
        let WatchedRun { feed, config, vocab_size, bos, eos, card, mut source } = run;
        let choices = worker::slots(&config);
        let model_limits = ModelLimits { model: card.name.clone(), vocab_size, eos, choices };
        // The global pool works for the trainer, and may have no thread besides the trainer's own.
        let pool = ThreadPoolBuilder::new().num_threads(1).build();
        let pool = pool.map_err(|error| ServeError::Start(io::Error::other(error)))?;
        let work =
            move |queue: &Queue| pool.install(|| worker::run_newest(&mut *source, bos, queue));
        self.serve((card, Some(feed)), model_limits, work, should_stop)
    }

    fn serve(
        self,
        (card, feed): (Card, Option<Arc<Feed>>),
        model_limits: ModelLimits,
        work: impl FnOnce(&Queue) -> Result<(), ModelError> + Send + 'static,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<(), ServeError> {
        let queue = Arc::new(Queue::new(self.limits.waiting));
        let guard = Guard::new(self.address.ip(), self.key.as_deref());
        let shared = Shared {
            guard,
            limits: self.limits.clone(),
            model_limits,
            queue: Arc::clone(&queue),
            card,
            feed,
            since: unix_time(),
        };
        let router = router(Arc::new(shared));
        let jobs = Arc::clone(&queue);
        let worker_thread = thread::Builder::new()
            .name("worker".to_owned())
            .spawn(move || work(&jobs))
            .map_err(ServeError::Start)?;
        let is_done = || worker_thread.is_finished();
        let stopped = || should_stop() || is_done();
        let Self { runtime, listener, limits, .. } = self;
        runtime
            .block_on(connections::serve(&listener, router, &limits, &queue, &stopped, &is_done));
        queue.abandon(); // Also if nothing was served.
        // Remaining connections are closed with the runtime.
        drop(runtime);
        let result: Result<(), ModelError> =
            worker_thread.join().map_err(|_| ServeError::Panicked)?;
        Ok(result?)
    }
}

/// Listens on an address that another server may have just closed.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows this would let another process use the address at the same time.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
