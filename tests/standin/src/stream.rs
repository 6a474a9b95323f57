//! Streams as threads with a queue and a computed clock, and the events between them.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::graph;
use crate::kernels::Kernel;
use crate::state::State;
use crate::{ILLEGAL_ADDRESS, INVALID_HANDLE, NOT_READY, SUCCESS, Status};

/// The host's clock: it moves when the host waits, never by itself.
static HOST: AtomicU64 = AtomicU64::new(0);

pub fn host_now() -> u64 {
    HOST.load(Ordering::Acquire)
}

fn host_reaches(time: u64) {
    HOST.fetch_max(time, Ordering::AcqRel);
}

/// One operation of a stream.
#[derive(Clone)]
pub enum Work {
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
        time: u64,
        flip: bool,
    },
    Fill {
        to: u64,
        value: u8,
        bytes: usize,
    },
    Kernel(Kernel),
    Record {
        event: Arc<Event>,
        ticket: u64,
    },
    Wait {
        event: Arc<Event>,
        ticket: u64,
    },
    /// Goes on when the number at an address is this large, as signed differences go.
    AwaitNumber {
        at: u64,
        least: u32,
    },
    WriteNumber {
        at: u64,
        value: u32,
    },
    /// Tells the host when everything before has ended.
    Tell(Sender<u64>),
}

/// A stream.
pub struct Stream {
    queue: Sender<(u64, Work)>,
    worker: JoinHandle<()>,
}

static STREAMS: Mutex<BTreeMap<u64, Stream>> = Mutex::new(BTreeMap::new());

impl Stream {
    #[expect(clippy::disallowed_methods, reason = "streams are threads; results hang on events")]
    pub fn create() -> *mut c_void {
        let (queue, work) = channel();
        let worker = std::thread::spawn(move || run(&work));
        let mut streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = streams.keys().next_back().map_or(0x10, |last| last + 8);
        streams.insert(handle, Self { queue, worker });
        handle as *mut c_void
    }

    pub fn destroy(handle: *mut c_void) -> Status {
        let stream =
            STREAMS.lock().unwrap_or_else(PoisonError::into_inner).remove(&(handle as u64));
        let Some(Stream { queue, worker }) = stream else { return INVALID_HANDLE };
        drop(queue);
        let _ = worker.join();
        SUCCESS
    }
}

/// Every call takes the host so long.
pub fn host_spends(time: u64) {
    HOST.fetch_add(time, Ordering::AcqRel);
}

/// Puts work at the end of a stream's queue, or into the graph that is being captured from it.
pub fn push(handle: *mut c_void, work: Work) -> Status {
    let work = match graph::take(handle, work) {
        Ok(()) => return SUCCESS,
        Err(work) => work,
    };
    let streams = STREAMS.lock().unwrap_or_else(PoisonError::into_inner);
    match streams.get(&(handle as u64)) {
        Some(stream) => {
            let _ = stream.queue.send((host_now(), work));
            SUCCESS
        }
        None => INVALID_HANDLE,
    }
}

/// Copies from and to pageable memory hold the host until they are done.
pub fn push_and_wait(handle: *mut c_void, work: Work) -> Status {
    if graph::captures(handle) {
        return graph::CAPTURE_UNSUPPORTED;
    }
    match push(handle, work) {
        SUCCESS => synchronise(handle),
        status => status,
    }
}

pub fn synchronise(handle: *mut c_void) -> Status {
    if graph::captures(handle) {
        return graph::CAPTURE_UNSUPPORTED;
    }
    let (tell, told) = channel();
    let status = push(handle, Work::Tell(tell));
    if let Ok(time) = told.recv() {
        host_reaches(time);
    }
    status
}

pub fn synchronise_all() -> Status {
    let handles: Vec<u64> =
        STREAMS.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
    for handle in handles {
        synchronise(handle as *mut c_void);
    }
    SUCCESS
}

/// Microseconds of real time that such work waits, with what all work does.
fn delay_of(setting: &str) -> u64 {
    let all = State::get().setting("real_delay_us");
    all.max(State::get().setting(setting))
}

fn run(work: &Receiver<(u64, Work)>) {
    let mut now = 0u64;
    while let Ok((issued, work)) = work.recv() {
        let delay = match work {
            Work::Tell(_) => 0,
            Work::Copy { .. } => delay_of("copy_delay_us"),
            Work::Kernel(_) => delay_of("kernel_delay_us"),
            _ => delay_of("real_delay_us"),
        };
        if delay > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay));
        }
        now = now.max(issued);
        match work {
            Work::Copy { to, from, bytes, time, flip } => {
                if to != from && State::get().setting("real_copies") > 0 {
                    // SAFETY: both ends were checked when the copy was issued; what frees them waits for all
                    // streams. Streams that no event orders may write the same bytes, as copy engines do.
                    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
                }
                if flip && bytes > 0 {
                    // SAFETY: the last of the bytes that were just written.
                    unsafe { *(to as *mut u8).add(bytes - 1) ^= 0x10 };
                }
                now += time;
            }
            Work::Fill { to, value, bytes } => {
                // SAFETY: checked when it was issued, as above.
                unsafe { std::ptr::write_bytes(to as *mut u8, value, bytes) };
            }
            Work::Kernel(kernel) => {
                match kernel.run(now) {
                    Some(time) => now += time,
                    None => State::get().break_context(ILLEGAL_ADDRESS),
                }
                State::get().made("kernel run");
            }
            Work::Record { event, ticket } => event.complete(ticket, now),
            Work::Wait { event, ticket } => now = now.max(event.await_ticket(ticket)),
            Work::AwaitNumber { at, least } => {
                while (number(at).load(Ordering::Acquire).wrapping_sub(least) as i32) < 0 {
                    std::thread::yield_now();
                }
            }
            Work::WriteNumber { at, value } => number(at).store(value, Ordering::Release),
            Work::Tell(tell) => {
                let _ = tell.send(now);
            }
        }
    }
}

fn number(at: u64) -> &'static AtomicU32 {
    // SAFETY: four bytes of pinned memory, checked when the operation was issued; what frees them waits for streams.
    unsafe { AtomicU32::from_ptr(at as *mut u32) }
}

/// An event: how often it was recorded, how often that was reached, and when.
pub struct Event {
    timing: bool,
    state: Mutex<EventState>,
    reached: Condvar,
}

#[derive(Default)]
struct EventState {
    issued: u64,
    done: u64,
    /// The last instants, with their tickets: a wait is for the record that it saw.
    times: VecDeque<(u64, u64)>,
}

static EVENTS: Mutex<BTreeMap<u64, Arc<Event>>> = Mutex::new(BTreeMap::new());

impl Event {
    pub fn create(timing: bool) -> *mut c_void {
        let event = Self { timing, state: Mutex::default(), reached: Condvar::new() };
        let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = events.keys().next_back().map_or(0x20, |last| last + 8);
        events.insert(handle, Arc::new(event));
        handle as *mut c_void
    }

    /// An event that no handle names.
    pub fn untimed() -> Arc<Self> {
        Arc::new(Self { timing: false, state: Mutex::default(), reached: Condvar::new() })
    }

    pub fn of(handle: *mut c_void) -> Option<Arc<Self>> {
        EVENTS.lock().unwrap_or_else(PoisonError::into_inner).get(&(handle as u64)).cloned()
    }

    pub fn destroy(handle: *mut c_void) -> Status {
        match EVENTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&(handle as u64)) {
            Some(_) => SUCCESS,
            None => INVALID_HANDLE,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, EventState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ticket of a new record.
    pub fn issue(&self) -> u64 {
        let mut state = self.lock();
        state.issued += 1;
        state.issued
    }

    /// The ticket of the last record; 0 when there was none, which no wait waits for.
    pub fn last(&self) -> u64 {
        self.lock().issued
    }

    fn complete(&self, ticket: u64, now: u64) {
        let mut state = self.lock();
        state.done = state.done.max(ticket);
        state.times.push_back((ticket, now));
        if state.times.len() > 256 {
            state.times.pop_front();
        }
        self.reached.notify_all();
    }

    fn await_ticket(&self, ticket: u64) -> u64 {
        let mut state = self.lock();
        while state.done < ticket {
            state = self.reached.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let known = state.times.iter().find(|&&(known, _)| known == ticket);
        known.map_or(0, |&(_, time)| time)
    }

    pub fn synchronise(&self) -> Status {
        let ticket = self.last();
        host_reaches(self.await_ticket(ticket));
        SUCCESS
    }

    pub fn elapsed(start: &Self, end: &Self) -> Result<f32, Status> {
        if !start.timing || !end.timing {
            return Err(INVALID_HANDLE);
        }
        let last = |event: &Self| {
            let state = event.lock();
            if state.issued == 0 {
                return Err(INVALID_HANDLE);
            }
            if state.done < state.issued {
                return Err(NOT_READY);
            }
            Ok(state.times.back().map_or(0, |&(_, time)| time))
        };
        let (start, end) = (last(start)?, last(end)?);
        Ok((end as f64 - start as f64) as f32 / 1e6_f32)
    }
}
