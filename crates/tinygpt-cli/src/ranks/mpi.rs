//! Ranks that MPI connects: Open MPI, MPICH or another one whose `mpicc` has compiled `shim.c`.
//!
//! Every wait has an end: operations do not block, and are asked for until the time is up. Records go over
//! rank 0, which therefore knows whose are missing.

use std::ffi::{c_char, c_int, c_void};
use std::time::{Duration, Instant};

use tinygpt_train::StopFlag;
use tinygpt_train::ranks::{Collective, Lost};

use super::records::{LOST, RECORDS, packed, unpacked};

#[allow(unsafe_code, reason = "calls of the MPI library, through shim.c")]
mod sys {
    use super::{c_char, c_int, c_void};

    unsafe extern "C" {
        pub(super) fn tinygpt_mpi_init(rank: *mut c_int, n_ranks: *mut c_int) -> c_int;
        pub(super) fn tinygpt_mpi_finalize() -> c_int;
        pub(super) fn tinygpt_mpi_error(code: c_int, text: *mut c_char, length: *mut c_int);
        pub(super) fn tinygpt_mpi_sum(values: *mut f32, n: c_int, request: *mut c_int) -> c_int;
        pub(super) fn tinygpt_mpi_broadcast(
            values: *mut f32,
            n: c_int,
            request: *mut c_int,
        ) -> c_int;
        pub(super) fn tinygpt_mpi_send(
            bytes: *const c_void,
            n: c_int,
            to: c_int,
            tag: c_int,
            request: *mut c_int,
        ) -> c_int;
        pub(super) fn tinygpt_mpi_receive(
            bytes: *mut c_void,
            n: c_int,
            from: c_int,
            tag: c_int,
            request: *mut c_int,
        ) -> c_int;
        pub(super) fn tinygpt_mpi_probe(from: c_int, tag: c_int, n: *mut c_int) -> c_int;
        pub(super) fn tinygpt_mpi_test(request: c_int, is_done: *mut c_int) -> c_int;
    }
}

/// Values in one message of a sum at most: 4 MiB, which is faster than shorter and longer ones (docs/scale.md).
const MESSAGE: usize = 1 << 20;
/// Values in one broadcast at most.
const CHUNK: usize = 1 << 24;
/// Messages to rank 0, and its answers.
const TO_FIRST: c_int = 1;
const FROM_FIRST: c_int = 2;
/// Says that a rank is there, after an operation on all ranks has failed.
const ALIVE: c_int = 3;
/// How long rank 0 waits for these.
const ROLL_CALL: Duration = Duration::from_secs(2);
/// How much longer the others wait for rank 0, which names the lost ranks.
const EXTRA: Duration = Duration::from_secs(5);
/// A wait that is longer than this sleeps between two questions.
const BUSY: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(100);

/// This process as a rank of MPI. Any thread may use it, one at a time, as `MPI_THREAD_SERIALIZED` demands: the
/// backward pass starts sums on the thread that computes it.
#[derive(Debug)]
pub(super) struct Mpi {
    rank: usize,
    n_ranks: usize,
    /// Whether MPI cannot be used any more, not even to end it.
    is_lost: bool,
    stop: StopFlag,
    /// How long the launcher lets a process live that it has asked to end.
    grace: Option<Duration>,
    /// The sums that were started, in order.
    sums: Vec<Sum>,
}

/// A sum that MPI computes in place.
#[derive(Debug)]
struct Sum {
    values: Vec<f32>,
    /// Those of its messages that are not known to be done.
    requests: Vec<c_int>,
}

impl Mpi {
    /// Joins the other processes. If `stop` is raised, no rank is waited for longer than `grace`.
    ///
    /// # Errors
    /// The message of MPI.
    pub(super) fn init(stop: &StopFlag, grace: Option<Duration>) -> Result<Self, String> {
        let (mut rank, mut n_ranks) = (0, 0);
        // SAFETY: both point to integers that live until it returns.
        #[allow(unsafe_code, reason = "a call of MPI")]
        check(unsafe { sys::tinygpt_mpi_init(&raw mut rank, &raw mut n_ranks) })?;
        let (rank, n_ranks) = (rank.unsigned_abs() as usize, n_ranks.unsigned_abs() as usize);
        Ok(Self { rank, n_ranks, is_lost: false, stop: stop.clone(), grace, sums: vec![] })
    }

    /// Asks `is_done` until it is, or the time is up.
    fn wait(
        &self,
        timeout: Duration,
        mut is_done: impl FnMut() -> Result<bool, String>,
    ) -> Result<(), Waited> {
        let begin = Instant::now();
        let mut asked = None;
        while !is_done().map_err(Waited::Failed)? {
            let elapsed = begin.elapsed();
            if elapsed > timeout {
                return Err(Waited::TooLong(format!("no answer for {} s", timeout.as_secs_f64())));
            }
            if let (Some(grace), Some(_)) = (self.grace, self.stop.signal()) {
                let asked = asked.get_or_insert_with(Instant::now);
                if asked.elapsed() > grace {
                    return Err(Waited::Ended);
                }
            }
            if elapsed > BUSY { std::thread::sleep(NAP) } else { std::thread::yield_now() }
        }
        Ok(())
    }

    /// Waits for requests whose buffers outlive the call.
    fn finish(&self, requests: &[c_int], timeout: Duration) -> Result<(), Waited> {
        for &request in requests {
            self.wait(timeout, || test(request))?;
        }
        Ok(())
    }

    /// Waits for an operation on all ranks. It cannot name who is missing, so rank 0 asks all.
    fn finish_all(&mut self, request: c_int, timeout: Duration) -> Result<(), Lost> {
        let Err(waited) = self.finish(&[request], timeout) else { return Ok(()) };
        let missing = self.missing();
        Err(self.lost(missing, waited))
    }

    /// The ranks that do not report now, at rank 0; the others report, and do not know.
    fn missing(&self) -> Vec<usize> {
        let time = self.grace.map_or(ROLL_CALL, |grace| ROLL_CALL.min(grace / 5));
        if self.rank > 0 {
            let _ = self.send(&[], std::iter::once(0), ALIVE, time);
            return Vec::new();
        }
        let mut missing: Vec<usize> = (1..self.n_ranks).collect();
        let begin = Instant::now();
        while !missing.is_empty() && begin.elapsed() < time {
            missing.retain(|rank| !matches!(self.take(*rank, ALIVE), Ok(Some(_))));
            std::thread::sleep(NAP);
        }
        missing
    }

    /// Lets MPI work on the sums that were started: it does so only while it is called.
    fn advance(&mut self) -> Result<(), Lost> {
        for i in 0..self.sums.len() {
            let mut pending = std::mem::take(&mut self.sums[i].requests);
            let mut failed = None;
            pending.retain(|&request| match test(request) {
                Ok(is_done) => !is_done,
                Err(text) => {
                    failed = Some(text);
                    true
                }
            });
            self.sums[i].requests = pending;
            if let Some(text) = failed {
                return Err(self.lost(Vec::new(), Waited::Failed(text)));
            }
        }
        Ok(())
    }

    fn lost(&mut self, ranks: Vec<usize>, waited: Waited) -> Lost {
        self.is_lost = true;
        // MPI may still write to them.
        std::mem::forget(std::mem::take(&mut self.sums));
        let reason = match waited {
            Waited::TooLong(reason) | Waited::Failed(reason) => reason,
            Waited::Ended => "it did not answer while the launcher ended the run".to_owned(),
        };
        Lost { ranks, reason }
    }

    /// The records of the others, at rank 0; `Err` has the ranks whose records are missing.
    fn collect(&self, own: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, (Vec<usize>, Waited)> {
        let mut records: Vec<Option<Vec<u8>>> = vec![None; self.n_ranks];
        records[0] = Some(own.to_vec());
        let arrived = self.wait(timeout, || {
            for (rank, record) in records.iter_mut().enumerate().skip(1) {
                if record.is_none() {
                    *record = self.take(rank, TO_FIRST)?;
                }
            }
            Ok(records.iter().all(Option::is_some))
        });
        let missing = (0..self.n_ranks).filter(|rank| records[*rank].is_none()).collect();
        arrived.map_err(|waited| (missing, waited))?;
        Ok(records.into_iter().flatten().collect())
    }

    /// The message of `from`, if it has come.
    fn take(&self, from: usize, tag: c_int) -> Result<Option<Vec<u8>>, String> {
        let (from, mut n) = (from as c_int, 0);
        // SAFETY: `n` lives until it returns.
        #[allow(unsafe_code, reason = "a call of MPI")]
        check(unsafe { sys::tinygpt_mpi_probe(from, tag, &raw mut n) })?;
        let Ok(len) = usize::try_from(n) else { return Ok(None) };
        let (mut bytes, mut request) = (vec![0_u8; len], 0);
        let buffer = bytes.as_mut_ptr().cast();
        // SAFETY: `bytes` has room for `n` and lives until the request is done.
        #[allow(unsafe_code, reason = "a call of MPI")]
        check(unsafe { sys::tinygpt_mpi_receive(buffer, n, from, tag, &raw mut request) })?;
        // The message is here already.
        while !test(request)? {}
        Ok(Some(bytes))
    }

    /// Sends `bytes` to `ranks`.
    fn send(
        &self,
        bytes: &[u8],
        ranks: impl Iterator<Item = usize>,
        tag: c_int,
        timeout: Duration,
    ) -> Result<(), Waited> {
        let n = c_int::try_from(bytes.len()).map_err(|_| Waited::Failed("too long".to_owned()))?;
        let mut requests = Vec::new();
        for rank in ranks {
            let (to, mut request) = (rank as c_int, 0);
            let buffer = bytes.as_ptr().cast();
            // SAFETY: `bytes` lives until the requests are done, which is waited for below; after an error
            // MPI is not called again, and nothing is sent without a call.
            #[allow(unsafe_code, reason = "a call of MPI")]
            let sent = unsafe { sys::tinygpt_mpi_send(buffer, n, to, tag, &raw mut request) };
            check(sent).map_err(Waited::Failed)?;
            requests.push(request);
        }
        self.finish(&requests, timeout)
    }

    fn gather_first(&mut self, record: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, Lost> {
        match self.collect(record, timeout) {
            Ok(records) => {
                let sent = self.send(&packed(&records), 1..self.n_ranks, FROM_FIRST, timeout);
                sent.map_err(|waited| self.lost(Vec::new(), waited))?;
                Ok(records)
            }
            Err((missing, waited)) => {
                let lost = self.lost(missing, waited);
                // The others are waiting; whether they get it does not matter any more.
                let alive = (1..self.n_ranks).filter(|rank| !lost.ranks.contains(rank));
                let message: Vec<u8> = std::iter::once(LOST)
                    .chain(lost.ranks.iter().flat_map(|rank| (*rank as u32).to_le_bytes()))
                    .collect();
                let _ = self.send(&message, alive, FROM_FIRST, Duration::from_millis(200));
                Err(lost)
            }
        }
    }

    fn gather_other(&mut self, record: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, Lost> {
        let longest = timeout.saturating_add(EXTRA);
        let sent = self.send(record, std::iter::once(0), TO_FIRST, longest);
        sent.map_err(|waited| self.lost(vec![0], waited))?;
        let mut answer = None;
        let waited = self.wait(longest, || {
            answer = self.take(0, FROM_FIRST)?;
            Ok(answer.is_some())
        });
        waited.map_err(|waited| match waited {
            // Rank 0 is being ended, too.
            Waited::Ended => self.lost(Vec::new(), waited),
            _ => self.lost(vec![0], waited),
        })?;
        let answer = answer.unwrap_or_default();
        match answer.split_first() {
            Some((&RECORDS, records)) => Ok(unpacked(records)),
            Some((_, ranks)) => {
                let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes) as usize;
                let reason = "it did not answer rank 0".to_owned();
                let ranks = ranks.chunks_exact(4).map(number).collect();
                Err(self.lost(ranks, Waited::TooLong(reason)))
            }
            None => Err(self.lost(vec![0], Waited::Failed("an empty message".to_owned()))),
        }
    }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn n_ranks(&self) -> usize {
        self.n_ranks
    }

    fn start_sum(&mut self, mut values: Vec<f32>) -> Result<(), Lost> {
        let mut requests = Vec::new();
        for message in values.chunks_mut(MESSAGE) {
            let (n, mut request) = (message.len() as c_int, 0);
            // SAFETY: the buffer of `values` lives in `sums` until its requests are done; it is leaked if they never
            // are.
            #[allow(unsafe_code, reason = "a call of MPI")]
            let code = unsafe { sys::tinygpt_mpi_sum(message.as_mut_ptr(), n, &raw mut request) };
            if let Err(text) = check(code) {
                std::mem::forget(values);
                return Err(self.lost(Vec::new(), Waited::Failed(text)));
            }
            requests.push(request);
        }
        self.sums.push(Sum { values, requests });
        self.advance()
    }

    fn finish_sums(&mut self, timeout: Duration) -> Result<Vec<Vec<f32>>, Lost> {
        for i in 0..self.sums.len() {
            while let Some(request) = self.sums[i].requests.pop() {
                self.finish_all(request, timeout)?;
            }
        }
        Ok(self.sums.drain(..).map(|sum| sum.values).collect())
    }

    fn broadcast(&mut self, values: &mut [f32], timeout: Duration) -> Result<(), Lost> {
        for chunk in values.chunks_mut(CHUNK) {
            let (n, mut request) = (chunk.len() as c_int, 0);
            // SAFETY: `chunk` lives until the request is done, which is waited for below; after an error MPI is
            // not called again, and the process ends.
            #[allow(unsafe_code, reason = "a call of MPI")]
            let code =
                unsafe { sys::tinygpt_mpi_broadcast(chunk.as_mut_ptr(), n, &raw mut request) };
            check(code).map_err(|text| self.lost(Vec::new(), Waited::Failed(text)))?;
            self.finish_all(request, timeout)?;
        }
        Ok(())
    }

    fn gather(&mut self, record: &[u8], timeout: Duration) -> Result<Vec<Vec<u8>>, Lost> {
        if self.rank == 0 {
            self.gather_first(record, timeout)
        } else {
            self.gather_other(record, timeout)
        }
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if !self.is_lost {
            // SAFETY: it was initialized, and this is the last call.
            #[allow(unsafe_code, reason = "a call of MPI")]
            let _ = unsafe { sys::tinygpt_mpi_finalize() };
        }
    }
}

/// Why a wait has ended early.
#[derive(Debug)]
enum Waited {
    TooLong(String),
    /// The launcher ends this process soon.
    Ended,
    /// The message of MPI.
    Failed(String),
}

fn test(request: c_int) -> Result<bool, String> {
    let mut is_done = 0;
    // SAFETY: `is_done` lives until it returns, and the request was made by the shim.
    #[allow(unsafe_code, reason = "a call of MPI")]
    check(unsafe { sys::tinygpt_mpi_test(request, &raw mut is_done) })?;
    Ok(is_done != 0)
}

fn check(code: c_int) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    let (mut text, mut length) = ([0_u8; 1024], 0);
    // SAFETY: both live until it returns, and no message of MPI is longer.
    #[allow(unsafe_code, reason = "a call of MPI")]
    unsafe {
        sys::tinygpt_mpi_error(code, text.as_mut_ptr().cast(), &raw mut length);
    }
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    Err(String::from_utf8_lossy(&text[..length]).into_owned())
}
