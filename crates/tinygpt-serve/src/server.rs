//! The server as a whole: its address, its two threads, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tinygpt_data::Tokenizer;
use tinygpt_model::{Model, ModelError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use crate::card::Card;
use crate::connections;
use crate::error::ServeError;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::request::Possible;
use crate::router::{router, shared};
use crate::writer;

/// How many connections the system holds ready for the server to take in. Of a burst of more, some
/// would only come through when they try again after a second.
const BACKLOG: u32 = 1024;

/// A model and what belongs to it.
#[derive(Debug)]
pub struct Served {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The token that begins a document.
    pub bos: u32,
    /// The token that ends one.
    pub eos: Option<u32>,
    /// What the page tells of it; its name is the model's name in the API.
    pub card: Card,
}

/// A server that listens but does not answer yet.
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
    /// cannot be had, [`ServeError::Start`] if the system refuses the means to wait.
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `should_stop`, which is asked many times a second. Texts that are being written
    /// then may go on for [`Limits::grace`]; nothing new is begun.
    ///
    /// # Errors
    /// [`ServeError::Model`] if the model cannot write any more, [`ServeError::Start`] if the
    /// system refuses a thread.
    pub fn run(self, served: Served, should_stop: &dyn Fn() -> bool) -> Result<(), ServeError> {
        let Served { model, tokenizer, bos, eos, card } = served;
        let possible = Possible {
            model: card.name.clone(),
            vocab_size: tokenizer.vocab_size(),
            eos,
            choices: writer::slots(model.config()),
        };
        let queue = Arc::new(Queue::new(self.limits.waiting));
        let guard = Guard::new(self.address.ip(), self.key.as_deref());
        let shared = shared(guard, self.limits.clone(), possible, Arc::clone(&queue), card);
        let router = router(Arc::new(shared));
        let lines = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer::write(&*model, &tokenizer, bos, &lines))
            .map_err(ServeError::Start)?;
        let is_done = || writer.is_finished();
        let stopped = || should_stop() || is_done();
        let Self { runtime, listener, limits, .. } = self;
        runtime
            .block_on(connections::serve(&listener, router, &limits, &queue, &stopped, &is_done));
        queue.abandon(); // Also where nothing was served.
        // Connections that are left end with the runtime.
        drop(runtime);
        let written: Result<(), ModelError> = writer.join().map_err(|_| ServeError::Panicked)?;
        Ok(written?)
    }
}

/// Listens on an address that a server may have left a moment ago.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows this would let others take the address, too.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
